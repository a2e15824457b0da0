//! The constants and images of `vyre-ioq`, as data.

use std::mem::{align_of, offset_of};

use vyre_ioq::abi::{self, HeaderImage, SlotImage};
use vyre_ioq::{Errno, Features, Flags, LoopState};

use crate::Result;

/// What comes before the name in C, the table of ABI.md, and its column of numbers.
pub(super) const SECTIONS: &[(&str, &str, &str)] = &[
    ("", "Sizes", "value"),
    ("WORD_", "Slot words", "word"),
    ("HEADER_WORD_", "Header words", "word"),
    ("OP_", "Operations", "value"),
    ("STATUS_", "Status words", "value"),
    ("FLAG_", "Flags", "value"),
    ("FEATURE_", "Features", "value"),
    ("STATE_", "Loop states", "value"),
    ("ERRNO_", "Errno", "value"),
];

pub(super) fn title(prefix: &str) -> &'static str {
    match prefix {
        "" => "Sizes in bytes and slots, and versions.",
        "WORD_" => "Words of a slot, by number.",
        "HEADER_WORD_" => "Words of the header, by number.",
        "OP_" => "Operations: WORD_OP.",
        "STATUS_" => "States of a slot: WORD_STATUS.",
        "FLAG_" => "Flags: WORD_FLAGS.",
        "FEATURE_" => "Features: HEADER_WORD_FEATURES.",
        "STATE_" => "What the host says of itself: HEADER_WORD_STATE.",
        _ => "What the host itself answers with in WORD_COUNT; other errnos are the kernel's.",
    }
}

pub(super) struct Define {
    pub(super) prefix: &'static str,
    pub(super) name: String,
    pub(super) value: u32,
}

impl Define {
    /// The number as ABI.md writes it.
    pub(super) fn literal(&self) -> String {
        if self.prefix == "STATUS_" {
            return format!("{:#x}u", self.value);
        }
        format!("{}u", self.value)
    }
}

/// Integer constants of a module. One that is missing here has a row in ABI.md all the same, since
/// the tests of `vyre-ioq` ask for one, and the comparison with ABI.md then fails.
macro_rules! constants {
    ($prefix:literal, $path:path, [$($name:ident),+ $(,)?]) => {{
        use $path as the;
        [$(($prefix, stringify!($name).to_owned(), u32::try_from(the::$name)?)),+]
    }};
}

/// All of them, in the order of the file.
pub(super) fn defines() -> Result<Vec<Define>> {
    let mut all: Vec<(&'static str, String, u32)> = Vec::new();
    all.extend(constants!(
        "",
        vyre_ioq::abi,
        [
            SLOT_BYTES,
            BARE_SLOT_BYTES,
            HEADER_BYTES,
            HEADER_ALIGN,
            MAX_SLOTS,
            MAX_BARE_SLOTS,
            GROUP_SLOTS,
            ABI_MAJOR,
            ABI_MINOR,
        ]
    ));
    all.extend(constants!(
        "WORD_",
        vyre_ioq::abi::word,
        [
            OP,
            SOURCE,
            DESTINATION,
            FILE_OFFSET_LOW,
            FILE_OFFSET_HIGH,
            COUNT,
            STATUS,
            TAG,
            BUFFER_OFFSET_LOW,
            BUFFER_OFFSET_HIGH,
            FLAGS,
            DEADLINE,
            RESERVED,
        ]
    ));
    all.extend(constants!(
        "HEADER_WORD_",
        vyre_ioq::abi::header_word,
        [
            MAGIC,
            MAJOR,
            MINOR,
            STRIDE,
            SLOTS,
            SLOTS_OFFSET,
            FEATURES,
            QUEUE_ID,
            STATE,
            HEARTBEAT,
            ASLEEP,
            DOORBELL,
            IN_USE,
            END,
        ]
    ));
    all.extend(constants!(
        "OP_",
        vyre_ioq::abi::op,
        [READ, WRITE, FENCE, SYNC, PREFETCH]
    ));
    all.extend(constants!(
        "STATUS_",
        vyre_ioq::abi::status,
        [EMPTY, PUBLISHED, CLAIMED, OK, ERROR,]
    ));
    let flags = Flags::all().iter_names();
    all.extend(flags.map(|(name, flag)| ("FLAG_", name.to_owned(), flag.bits())));
    let features = Features::all().iter_names();
    all.extend(features.map(|(name, bit)| ("FEATURE_", name.to_owned(), bit.bits())));
    for word in LoopState::Starting as u32..=LoopState::Failed as u32 {
        let state = LoopState::from_word(word);
        all.push(("STATE_", format!("{state:?}").to_uppercase(), state as u32));
    }
    let errnos = (0..4096).map(Errno::from_raw);
    all.extend(errnos.filter_map(|errno| Some(("ERRNO_", errno.name()?.to_owned(), errno.raw()))));
    let define = |(prefix, name, value)| Define {
        prefix,
        name,
        value,
    };
    Ok(all.into_iter().map(define).collect())
}

pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) offset: usize,
    pub(super) words: usize,
}

/// A struct of words.
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) bytes: usize,
    pub(super) align: usize,
    pub(super) fields: Vec<Field>,
}

/// The fields of an image. The pattern has no `..`: a field that is not listed does not compile.
macro_rules! image {
    ($name:literal, $about:literal, $image:ident { $($field:ident),+ $(,)? }) => {{
        let $image { $($field),+ } = $image::default();
        Image {
            name: $name,
            about: $about,
            bytes: size_of::<$image>(),
            align: align_of::<$image>(),
            fields: vec![$(Field {
                name: stringify!($field),
                offset: offset_of!($image, $field),
                words: size_of_val(&$field) / size_of::<u32>(),
            }),+],
        }
    }};
}

pub(super) fn images() -> [Image; 2] {
    debug_assert_eq!(size_of::<SlotImage>(), abi::SLOT_BYTES);
    [
        image!(
            "vyre_ioq_slot",
            "The words of a slot. In the bare layout it ends after `tag`.",
            SlotImage {
                op,
                source,
                destination,
                file_offset_low,
                file_offset_high,
                count,
                status,
                tag,
                buffer_offset_low,
                buffer_offset_high,
                flags,
                deadline,
                reserved,
            }
        ),
        image!(
            "vyre_ioq_header",
            "Line 0 of the header: what never changes.",
            HeaderImage {
                magic,
                major,
                minor,
                stride,
                slots,
                slots_offset,
                features,
                queue_id,
                reserved,
            }
        ),
    ]
}
