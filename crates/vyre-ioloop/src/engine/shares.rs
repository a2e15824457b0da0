//! The share of the transport that a queue may use: entries at any time, and bytes in a pass.
//!
//! Half of the transport's entries are reserved, in equal parts for the queues. Any queue may borrow
//! from the other half. A queue that starts late therefore finds its reserve free, whatever the others
//! hold, and a queue alone has more than half of the transport.
//!
//! Requests on unbounded files (pipes, sockets, terminals) may stay in the transport for ever. A queue
//! may use half of its reserve for them. The others are parked and delay nobody else.

/// The largest number of bytes of one operation. The kernel copies cached data while the loop's thread
/// waits.
pub(crate) const OPERATION_BYTES: u32 = 1 << 20;

/// The largest number of bytes of one operation of direct I/O, which copies nothing, or of a DURABLE
/// write, each of which flushes.
pub(crate) const LONG_OPERATION_BYTES: u32 = 16 << 20;

/// The number of bytes given to the transport in one pass. The last operation may exceed it.
pub(crate) const PASS_BYTES: u32 = 8 << 20;

/// The number of bytes that a queue gives to the transport in one turn. An excess counts against the
/// queue's next turns. A turn also ends when the queue has borrowed an entry, so that queues borrow
/// equally many.
pub(crate) const TURN_BYTES: u32 = OPERATION_BYTES;

/// The largest number of operations in one turn. Each operation counts at least its part of the turn's
/// bytes.
const TURN_OPERATIONS: u32 = 32;
const LEAST_CHARGE: u32 = TURN_BYTES / TURN_OPERATIONS;

/// The use of the transport by all queues together.
#[derive(Debug)]
pub(crate) struct Shares {
    /// The number of entries reserved for each queue.
    reserve: u32,
    /// The number of entries that any queue may borrow, and the number of those that are borrowed.
    lendable: u32,
    lent: u32,
    /// The largest number of requests on unbounded files that one queue may have in the transport.
    unbounded: u32,
    /// The number of bytes left in this pass.
    bytes: u32,
    /// The number of entries of the transport.
    capacity: u32,
}

/// The use of the transport by one queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    entries: u32,
    /// The number of requests on unbounded files that are in the transport, or about to be.
    unbounded: u32,
    /// The number of bytes left in its turn; negative if an operation exceeded a turn.
    credit: i64,
}

impl Shares {
    /// Divides a transport of which nothing is used.
    pub(crate) fn new(capacity: u32, queues: usize) -> Self {
        let mut shares = Self {
            reserve: 0,
            lendable: 0,
            lent: 0,
            unbounded: 0,
            bytes: PASS_BYTES,
            capacity,
        };
        shares.divide(capacity, vec![Share::default(); queues].iter());
        shares
    }

    pub(crate) const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Divides the transport anew among queues that use this much of it. A queue that uses more than its new reserve
    /// has borrowed the rest. If more is lent than may be, nothing more is lent until that has changed.
    pub(crate) fn divide<'a>(&mut self, capacity: u32, used: impl Iterator<Item = &'a Share>) {
        let entries: Vec<u32> = used.map(|share| share.entries).collect();
        let queues = u32::try_from(entries.len()).unwrap_or(u32::MAX).max(1);
        self.reserve = if queues == 1 {
            capacity
        } else {
            // One entry each, where that is all there is.
            (capacity / queues / 2).max(u32::from(capacity >= queues))
        };
        self.capacity = capacity;
        self.lendable = capacity - self.reserve * queues;
        self.unbounded = (self.reserve / 2).max(1);
        let borrowed = entries.iter().map(|used| used.saturating_sub(self.reserve));
        self.lent = borrowed.sum();
    }

    /// Begins a pass, and returns how many bytes the last one gave to the transport.
    #[inline]
    pub(crate) fn begin_pass(&mut self) -> u32 {
        PASS_BYTES - std::mem::replace(&mut self.bytes, PASS_BYTES)
    }

    /// Returns whether the pass has bytes left.
    #[inline]
    pub(crate) const fn has_bytes(&self) -> bool {
        self.bytes > 0
    }

    /// Returns whether a queue may use one more entry.
    #[inline]
    pub(crate) const fn has_room(&self, share: &Share) -> bool {
        share.entries < self.reserve || self.lent < self.lendable
    }

    /// Returns whether a queue uses entries that it borrowed.
    pub(crate) const fn borrows(&self, share: &Share) -> bool {
        share.entries > self.reserve
    }

    /// Counts the start of an operation of this many bytes.
    #[inline]
    pub(crate) fn take(&mut self, share: &mut Share, bytes: u32) {
        if share.entries >= self.reserve {
            self.lend();
        }
        share.entries += 1;
        self.count_bytes(bytes);
    }

    /// Counts bytes that move in this pass.
    #[inline]
    pub(crate) const fn count_bytes(&mut self, bytes: u32) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Counts the end of an operation.
    #[inline]
    pub(crate) fn give_back(&mut self, share: &mut Share) {
        if share.entries > self.reserve {
            self.end_loan();
        }
        share.entries -= 1;
    }

    // Out of the way of queues that keep to their reserve.
    #[cold]
    fn lend(&mut self) {
        self.lent += 1;
    }

    #[cold]
    fn end_loan(&mut self) {
        self.lent -= 1;
    }

    /// Counts the start of a request on an unbounded file, unless the queue has reached its limit.
    /// Returns whether it did count.
    pub(crate) fn take_unbounded(&self, share: &mut Share) -> bool {
        let takes = share.unbounded < self.unbounded;
        share.unbounded += u32::from(takes);
        takes
    }
}

impl Share {
    /// Returns the number of operations in the transport.
    pub(crate) const fn entries(&self) -> u32 {
        self.entries
    }

    /// Counts the end of a request on an unbounded file.
    pub(crate) fn give_back_unbounded(&mut self) {
        self.unbounded -= 1;
    }

    /// Counts a request on an unbounded file that ends without the transport.
    pub(crate) fn count_unbounded(&mut self) {
        self.unbounded += 1;
    }

    /// Begins a turn.
    pub(crate) fn begin_turn(&mut self) {
        self.credit = (self.credit + i64::from(TURN_BYTES)).min(i64::from(TURN_BYTES));
    }

    /// Returns whether the turn has bytes left.
    pub(crate) const fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// Counts an operation of this many bytes against the turn.
    pub(crate) fn charge(&mut self, bytes: u32) {
        self.credit -= i64::from(bytes.max(LEAST_CHARGE));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each queue gets its reserve, whatever the others hold, and no more entries are lent than
        /// exist.
        #[test]
        fn a_queue_s_reserve_is_free_whatever_the_others_hold(
            capacity in 1..200_u32,
            queues in 1..12_usize,
            steps in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.8)), 0..600),
        ) {
            let mut shares = Shares::new(capacity, queues);
            let mut held = vec![Share::default(); queues];
            for (which, takes) in steps {
                let share = &mut held[which.index(queues)];
                if takes && shares.has_room(share) {
                    shares.take(share, 1);
                } else if share.entries > 0 {
                    shares.give_back(share);
                }
                let used: u32 = held.iter().map(|share| share.entries).sum();
                prop_assert!(used <= capacity);
                let owed: u32 = held
                    .iter()
                    .map(|share| shares.reserve.saturating_sub(share.entries))
                    .sum();
                prop_assert!(used + owed <= capacity, "a reserve is lent");
            }
            prop_assert!(shares.reserve > 0 || capacity < queues as u32);
        }
    }

    #[test]
    fn a_queue_alone_has_it_all() {
        let mut shares = Shares::new(7, 1);
        let mut share = Share::default();
        while shares.has_room(&share) {
            shares.take(&mut share, 1);
        }
        assert_eq!(share.entries, 7);
    }

    #[test]
    fn one_of_two_queues_has_three_quarters_and_may_fill_a_quarter_of_its_own_with_endless_requests()
     {
        let mut shares = Shares::new(256, 2);
        let mut share = Share::default();
        while shares.has_room(&share) {
            shares.take(&mut share, 1);
        }
        assert_eq!(share.entries, 192);
        let endless = std::iter::from_fn(|| shares.take_unbounded(&mut share).then_some(()));
        assert_eq!(endless.count(), 32);
    }
}
