//! The limits of one peer, from options and from the policy file.

use std::num::{NonZeroU32, NonZeroU64};

use serde::Deserialize;
use serde::de::Error as _;
use vyre_io::QueueLimits;
use vyre_io_client::protocol::{Limits, NO_LIMIT, NO_LIMIT_32};

use crate::args::{Size, slots};

/// Limits as they are given: those that are not given keep what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LimitArgs {
    /// Number of queues that a peer may have at a time [default: 4]
    #[arg(long, value_name = "N")]
    queues: Option<NonZeroU32>,
    /// Number of slots of a queue, 1 to 4096 [default: 1024]
    #[arg(long, value_name = "N", value_parser = slots)]
    #[serde(default, deserialize_with = "checked_slots")]
    slots: Option<NonZeroU32>,
    /// Number of buffers that a peer may have at a time [default: 64]
    #[arg(long, value_name = "N")]
    buffers: Option<NonZeroU32>,
    /// Bytes of all buffers of a peer together [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    buffer_bytes: Option<Size>,
    /// Number of files that a peer may have open at a time, over all its queues [default: 64]
    #[arg(long, value_name = "N")]
    files: Option<NonZeroU32>,
    /// Operations that a peer may start in a second, over all its queues [default: no limit]
    #[arg(long, value_name = "N")]
    operations_per_second: Option<NonZeroU64>,
    /// Bytes that a peer may ask for in a second, over all its queues [default: no limit]
    #[arg(long, value_name = "SIZE")]
    bytes_per_second: Option<Size>,
    /// Operations that a peer may have in flight, over all its queues [default: no limit]
    #[arg(long, value_name = "N")]
    in_flight: Option<NonZeroU32>,
}

fn checked_slots<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<NonZeroU32>, D::Error> {
    let number = u32::deserialize(from)?;
    slots(&number.to_string())
        .map(Some)
        .map_err(D::Error::custom)
}

/// The limits of a peer for which none is given.
pub(crate) const DEFAULT: Limits = Limits {
    queues: 4,
    slots: 1024,
    buffers: 64,
    open_files: 64,
    buffer_bytes: 64 << 20,
    operations_per_second: NO_LIMIT,
    bytes_per_second: NO_LIMIT,
    operations_in_flight: NO_LIMIT_32,
    bytes_in_flight: NO_LIMIT,
};

impl LimitArgs {
    /// Returns limits with those that are given in their place.
    pub(crate) fn over(&self, limits: Limits) -> Limits {
        let number = |given: Option<NonZeroU32>, old| given.map_or(old, NonZeroU32::get);
        let size = |given: Option<Size>, old| given.map_or(old, |size| size.0.max(1));
        let rate = self.operations_per_second.map(NonZeroU64::get);
        Limits {
            queues: number(self.queues, limits.queues),
            slots: number(self.slots, limits.slots),
            buffers: number(self.buffers, limits.buffers),
            open_files: number(self.files, limits.open_files),
            buffer_bytes: size(self.buffer_bytes, limits.buffer_bytes),
            operations_per_second: rate.unwrap_or(limits.operations_per_second),
            bytes_per_second: size(self.bytes_per_second, limits.bytes_per_second),
            operations_in_flight: number(self.in_flight, limits.operations_in_flight),
            bytes_in_flight: limits.bytes_in_flight,
        }
    }
}

/// Returns the limits of each queue of a peer that has this many: equal parts, which together never exceed the
/// peer's own.
pub(crate) fn of_each(limits: &Limits, queues: usize) -> QueueLimits {
    let queues = queues.max(1) as u64;
    let part = |limit: u64| match limit {
        NO_LIMIT => limit,
        limit => (limit / queues).max(1),
    };
    let in_flight = match limits.operations_in_flight {
        NO_LIMIT_32 => NO_LIMIT_32,
        limit => part(limit.into()) as u32,
    };
    QueueLimits::new()
        .operations_per_second(part(limits.operations_per_second))
        .bytes_per_second(part(limits.bytes_per_second))
        .operations_in_flight(in_flight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_replaces_what_was() {
        let given: LimitArgs =
            toml::from_str("queues = 2\nbytes-per-second = '10k'").expect("limits");
        let limits = given.over(DEFAULT);
        let expected = Limits {
            queues: 2,
            bytes_per_second: 10 << 10,
            ..DEFAULT
        };
        assert_eq!(limits, expected);
        assert!(toml::from_str::<LimitArgs>("queues = 0").is_err());
        assert!(toml::from_str::<LimitArgs>("quues = 1").is_err());
    }

    #[test]
    fn queues_divide_the_limits_of_their_peer() {
        let limits = Limits {
            operations_per_second: 1000,
            operations_in_flight: 2,
            ..DEFAULT
        };
        let none = QueueLimits::new();
        let each = |rate, in_flight| {
            none.operations_per_second(rate)
                .operations_in_flight(in_flight)
        };
        assert_eq!(of_each(&limits, 0), each(1000, 2));
        assert_eq!(of_each(&limits, 1), each(1000, 2));
        assert_eq!(
            of_each(&limits, 3),
            each(333, 1),
            "a limit of nothing would stop it"
        );
        assert_eq!(of_each(&DEFAULT, 3), none);
    }
}
