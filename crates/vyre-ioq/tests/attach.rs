//! Every rule by which memory is accepted as a queue, broken once.

#![cfg(feature = "std")]

mod common;

use std::collections::BTreeSet;

use common::{Memory, WORD, attach_error_variants};
use vyre_ioq::abi::{self, header_word};
use vyre_ioq::{
    AttachError, DeviceQueue, Features, HostQueue, Queue, QueueLayout, Region, Request,
};

/// A queue of `slots` slots whose host end is gone; the memory stays.
fn created(slots: u32) -> Memory {
    let layout = QueueLayout::with_slots(slots).with_id(7);
    let memory = Memory::new(layout.bytes());
    drop(HostQueue::create(memory.region(), &layout).expect("a fit region"));
    memory
}

/// Returns the result of attaching when a header word holds `value`.
fn with_word(word: usize, value: u32) -> Result<DeviceQueue, AttachError> {
    let memory = created(2);
    memory.store(word, value);
    DeviceQueue::attach(memory.region())
}

fn refused<T>(result: Result<T, AttachError>) -> AttachError {
    result.err().expect("refused")
}

/// Rules: ABI-2.1, ABI-3.2.
#[test]
fn misaligned_memory_is_refused() {
    let memory = Memory::new(4096 * 3);
    for skip in [1, 2, 3, 5] {
        let error = refused(memory.try_region(skip, 64));
        assert!(
            matches!(error, AttachError::Misaligned { align: 4, .. }),
            "{error}"
        );
    }
    for skip in [4, 64, 2048, 4092] {
        let region = memory.try_region(skip, 8192).expect("aligned to a word");
        let layout = QueueLayout::with_slots(1);
        for error in [
            refused(HostQueue::create(region.clone(), &layout)),
            refused(DeviceQueue::attach(region)),
        ] {
            assert!(
                matches!(error, AttachError::Misaligned { align: 4096, .. }),
                "{error}"
            );
        }
    }
}

/// Rule: ABI-3.2.
#[test]
fn a_region_that_ends_before_the_queue_is_refused() {
    let layout = QueueLayout::with_slots(3);
    let need = 4096 + 3 * 64;
    let memory = Memory::new(need);
    for have in [0, 4, 4096, need - 1] {
        let region = memory.try_region(0, have).expect("aligned");
        let error = refused(HostQueue::create(region, &layout));
        assert_eq!(error, AttachError::TooShort { need, have });
    }
    assert!(
        (0..need / WORD).all(|word| memory.load(word) == 0),
        "nothing is written before the checks"
    );

    let memory = created(3);
    for (have, need) in [(0, 4096), (4092, 4096), (4096, need), (need - 4, need)] {
        let region = memory.try_region(0, have).expect("aligned");
        let error = refused(DeviceQueue::attach(region));
        assert_eq!(error, AttachError::TooShort { need, have });
    }
    let bare = memory.try_region(0, 95).expect("aligned");
    let error = refused(HostQueue::create(bare, &QueueLayout::bare(3)));
    assert_eq!(error, AttachError::TooShort { need: 96, have: 95 });
}

/// Rule: ABI-3.2.
#[test]
fn memory_without_the_magic_is_refused() {
    let empty = Memory::new(4096 + 64);
    let error = refused(DeviceQueue::attach(empty.region()));
    assert_eq!(error, AttachError::BadMagic { found: [0, 0] });
    for (word, value) in [(0, 0), (1, 0), (0, abi::MAGIC[1]), (1, abi::MAGIC[0])] {
        let error = refused(with_word(word, value));
        assert!(matches!(error, AttachError::BadMagic { .. }), "{error}");
    }
}

/// Rules: ABI-3.2, ABI-3.3.
#[test]
fn another_major_version_is_refused_and_another_minor_is_not() {
    for theirs in [0, 2, u32::MAX] {
        let error = refused(with_word(header_word::MAJOR, theirs));
        assert_eq!(error, AttachError::MajorVersion { theirs, ours: 1 });
    }
    for minor in [1, u32::MAX] {
        assert!(with_word(header_word::MINOR, minor).is_ok());
    }
}

/// Rules: ABI-2.1, ABI-3.2.
#[test]
fn another_stride_is_refused() {
    for stride in [0, 32, 63, 128, u32::MAX] {
        let error = refused(with_word(header_word::STRIDE, stride));
        assert_eq!(error, AttachError::BadStride { stride });
    }
}

/// Rules: ABI-2.1, ABI-3.2.
#[test]
fn a_slot_count_outside_the_limits_is_refused() {
    for slots in [0, 4097, u32::MAX] {
        let expected = AttachError::BadSlotCount {
            slots: u64::from(slots),
            most: 4096,
        };
        assert_eq!(refused(with_word(header_word::SLOTS, slots)), expected);
        let layout = QueueLayout::with_slots(slots);
        assert_eq!(refused(Queue::anonymous(layout)), expected);
        let region = Memory::new(4096).region();
        assert_eq!(refused(HostQueue::create(region, &layout)), expected);
    }
    for slots in [0, 65, u32::MAX] {
        let expected = AttachError::BadSlotCount {
            slots: u64::from(slots),
            most: 64,
        };
        let layout = QueueLayout::bare(slots);
        assert_eq!(refused(Queue::anonymous(layout)), expected);
    }
}

/// Rule: ABI-3.2.
#[test]
fn slots_inside_the_header_or_between_lines_are_refused() {
    for offset in [0, 64, 4032, 4095, 4097, 4128, u32::MAX] {
        let error = refused(with_word(header_word::SLOTS_OFFSET, offset));
        assert_eq!(error, AttachError::BadSlotsOffset { offset });
    }
    let far = refused(with_word(header_word::SLOTS_OFFSET, 0xffff_ffc0));
    assert!(matches!(far, AttachError::TooShort { .. }), "{far}");
}

/// Rule: ABI-2.1.
#[test]
fn slots_further_on_are_found_where_the_header_says() {
    let memory = Memory::new(4096 + 3 * 64);
    drop(HostQueue::create(memory.region(), &QueueLayout::with_slots(2)).expect("fit"));
    memory.store(header_word::SLOTS_OFFSET, 4096 + 64);
    let device = DeviceQueue::attach(memory.region()).expect("a fit header");
    assert_eq!(device.geometry().slots_offset(), 4096 + 64);
    let _ticket = device.submit(Request::fence()).expect("a free slot");
    assert_eq!(memory.load(4096 / WORD + abi::word::STATUS), 0);
    assert_eq!(memory.load((4096 + 64) / WORD + abi::word::STATUS), 1);
}

/// Rules: ABI-2.8, ABI-3.2.
#[test]
fn a_reserved_header_word_that_is_set_is_refused() {
    for word in 10..16 {
        let error = refused(with_word(word, 0x80));
        assert_eq!(error, AttachError::ReservedNotZero { word, value: 0x80 });
    }
}

/// Rules: ABI-2.2, ABI-3.2.
#[test]
fn a_bare_queue_is_a_whole_number_of_slots() {
    for len in [1, 4, 31, 33, 36, 63, 2047, 2049, 2052] {
        let memory = Memory::new(len);
        let expected = AttachError::BareLength { len };
        assert_eq!(refused(HostQueue::attach_bare(memory.region())), expected);
        assert_eq!(refused(DeviceQueue::attach_bare(memory.region())), expected);
    }
}

/// Rules: ABI-2.2, ABI-3.2.
#[test]
fn a_bare_queue_has_1_to_64_slots() {
    for slots in [0, 65, 128] {
        let memory = Memory::new(slots * 32);
        let expected = AttachError::BadSlotCount {
            slots: slots as u64,
            most: 64,
        };
        assert_eq!(refused(HostQueue::attach_bare(memory.region())), expected);
        assert_eq!(refused(DeviceQueue::attach_bare(memory.region())), expected);
    }
    for slots in [1, 2, 63, 64] {
        let memory = Memory::new(slots * 32);
        let host = HostQueue::attach_bare(memory.region()).expect("fit");
        assert_eq!(host.geometry().slots() as usize, slots);
        let allocated = Region::allocate(slots * 32).expect("memory");
        let device = DeviceQueue::attach_bare(allocated).expect("no longer than asked for");
        assert_eq!(device.geometry().slots() as usize, slots);
    }
}

/// Rule: ABI-2.2.
#[test]
fn a_bare_queue_may_begin_at_any_word() {
    for start in 0..16 {
        let memory = Memory::starting_at(start, 2 * 32);
        let mut host = HostQueue::attach_bare_with_counts(memory.region()).expect("fit");
        let device = DeviceQueue::attach_bare_with_counts(memory.region()).expect("fit");
        let ticket = device.submit(Request::fence().with_tag(9)).expect("free");
        assert_eq!(memory.load(abi::word::STATUS), 1);
        assert_eq!(host.claim_published(0..2, drop), 1);
        host.complete(0, Ok(3)).expect("owed");
        let outcome = device.take(ticket).expect("an outcome");
        assert_eq!((outcome.tag, outcome.bytes()), (9, Ok(3)));
    }
}

#[test]
fn requests_published_before_a_bare_queue_is_taken_over_are_kept() {
    let memory = Memory::new(32);
    memory.store_all(0, &[3, 0, 0, 0, 0, 0, 1, 77]);
    let mut host = HostQueue::attach_bare(memory.region()).expect("fit");
    let mut tags = Vec::new();
    host.claim_published(0..1, |claim| tags.push(claim.image.tag));
    assert_eq!(tags, [77]);
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    for bytes in [usize::MAX, isize::MAX as usize] {
        let error = refused(Region::allocate(bytes));
        assert_eq!(error, AttachError::OutOfMemory { bytes });
    }
}

/// Rule: ABI-3.3.
#[test]
fn attach_takes_the_features_that_both_know_and_the_id() {
    for (offered, taken) in [
        (0, Features::empty()),
        (1, Features::DOORBELL),
        (2, Features::WAKE),
        (u32::MAX, Features::all()),
        (u32::MAX - 3, Features::empty()),
    ] {
        let device = with_word(header_word::FEATURES, offered).expect("features are optional");
        assert_eq!(device.features(), taken);
        assert_eq!((device.id(), device.geometry().slots()), (7, 2));
    }
}

/// Rule: ABI-3.1.
#[test]
fn what_is_stored_over_the_header_later_moves_no_slot() {
    let layout = QueueLayout::with_slots(2);
    let memory = Memory::new(layout.bytes());
    let mut host = HostQueue::create(memory.region(), &layout).expect("fit");
    let device = DeviceQueue::attach(memory.region()).expect("a header");
    for word in 0..4096 / WORD {
        memory.store(word, u32::MAX);
    }
    let ticket = device.submit(Request::fence()).expect("a free slot");
    assert_eq!(host.claim_published(0..9, drop), 1);
    host.complete(0, Ok(0)).expect("owed");
    assert!(device.take(ticket).is_ok());
}

/// The tests above name every variant: a new rule needs a new test.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn every_attach_error_is_tested_in_this_file() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attach.rs");
    let text = std::fs::read_to_string(source).expect("this file");
    let variants: BTreeSet<_> = attach_error_variants().into_iter().collect();
    assert_eq!(variants.len(), 10, "{variants:?}");
    for variant in variants {
        let named = format!("AttachError::{variant} {{");
        assert!(text.contains(&named), "no test of {variant}");
    }
}
