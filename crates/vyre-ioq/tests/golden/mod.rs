//! The numbers of the ABI, written by hand. Deployed C and CUDA code relies on each of them: a change is
//! a new major version.
//!
//! The sources, the headers and the tables of `ABI.md` come from one list in `src/abi.rs`. This one does
//! not, so that it can catch an error there.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;

/// Numbers by name. The name is that of the C header without `VYRE_IOQ_`.
pub(crate) type Numbers = BTreeMap<String, u32>;

/// A section of the ABI: the prefix of its names, and its numbers.
pub(crate) type Section = (&'static str, &'static [(&'static str, u32)]);

#[rustfmt::skip]
pub(crate) const SECTIONS: &[Section] = &[
    ("", &[
        ("SLOT_BYTES", 64),
        ("BARE_SLOT_BYTES", 32),
        ("HEADER_BYTES", 4096),
        ("HEADER_ALIGN", 4096),
        ("MAX_SLOTS", 4096),
        ("MAX_BARE_SLOTS", 64),
        ("GROUP_SLOTS", 64),
        ("ABI_MAJOR", 1),
        ("ABI_MINOR", 2),
    ]),
    ("WORD_", &[
        ("OP", 0),
        ("SOURCE", 1),
        ("DESTINATION", 2),
        ("FILE_OFFSET_LOW", 3),
        ("FILE_OFFSET_HIGH", 4),
        ("COUNT", 5),
        ("STATUS", 6),
        ("TAG", 7),
        ("BUFFER_OFFSET_LOW", 8),
        ("BUFFER_OFFSET_HIGH", 9),
        ("FLAGS", 10),
        ("DEADLINE", 11),
        ("RESERVED", 12),
    ]),
    ("HEADER_WORD_", &[
        ("MAGIC", 0),
        ("MAJOR", 2),
        ("MINOR", 3),
        ("STRIDE", 4),
        ("SLOTS", 5),
        ("SLOTS_OFFSET", 6),
        ("FEATURES", 7),
        ("QUEUE_ID", 8),
        ("STATE", 16),
        ("HEARTBEAT", 17),
        ("ASLEEP", 18),
        ("WAKEUPS", 19),
        ("DOORBELL", 32),
        ("ARMED", 33),
        ("IN_USE", 64),
        ("END", 128),
    ]),
    ("OP_", &[
        ("READ", 1),
        ("WRITE", 2),
        ("FENCE", 3),
        ("SYNC", 4),
        ("PREFETCH", 5),
        ("MAP", 6),
    ]),
    ("STATUS_", &[
        ("EMPTY", 0),
        ("PUBLISHED", 1),
        ("CLAIMED", 2),
        ("OK", 0x10),
        ("ERROR", 0x11),
    ]),
    ("FLAG_", &[
        ("DURABLE", 1),
        ("EXACT", 2),
    ]),
    ("FEATURE_", &[
        ("DOORBELL", 1),
        ("WAKE", 2),
    ]),
    ("STATE_", &[
        ("STARTING", 0),
        ("RUNNING", 1),
        ("DRAINING", 2),
        ("STOPPED", 3),
        ("FAILED", 4),
    ]),
    ("ERRNO_", &[
        ("EIO", 5),
        ("EBADF", 9),
        ("EACCES", 13),
        ("EINVAL", 22),
        ("ENOSPC", 28),
        ("ERANGE", 34),
        ("ENODATA", 61),
        ("EOPNOTSUPP", 95),
        ("ENOBUFS", 105),
        ("ETIMEDOUT", 110),
        ("ECANCELED", 125),
    ]),
];

/// `VYREIOQ` and a zero byte, as two little-endian words.
pub(crate) const MAGIC: [u32; 2] = [0x4552_5956, 0x0051_4f49];

/// The numbers of a section, by name without the prefix.
pub(crate) fn section(prefix: &str) -> Numbers {
    let (_, numbers) = SECTIONS
        .iter()
        .find(|(found, _)| *found == prefix)
        .unwrap_or_else(|| panic!("no section {prefix:?}"));
    let named: Numbers = numbers
        .iter()
        .map(|&(name, number)| (name.to_owned(), number))
        .collect();
    assert_eq!(named.len(), numbers.len(), "{prefix}: a name twice");
    named
}

/// All numbers, by name with the prefix, and the two words of the magic.
pub(crate) fn all() -> Numbers {
    let sections = SECTIONS.iter();
    let mut all: Numbers = sections
        .flat_map(|(prefix, numbers)| {
            let name = move |&(name, number): &(&str, u32)| (format!("{prefix}{name}"), number);
            numbers.iter().map(name)
        })
        .collect();
    let [low, high] = MAGIC;
    all.insert("MAGIC_0".to_owned(), low);
    all.insert("MAGIC_1".to_owned(), high);
    all
}
