//! Proofs about every header and every piece of memory. Only `cargo kani` runs them.

use super::check_image;
use crate::abi::{HeaderImage, MAGIC};
use crate::error::AttachError;
use crate::layout::Geometry;

fn any_header() -> HeaderImage {
    bytemuck::cast(kani::any::<[u32; 16]>())
}

/// Returns the end of the last slot, in numbers that cannot overflow.
fn end_of(image: &HeaderImage) -> u128 {
    u128::from(image.slots_offset) + u128::from(image.slots) * 64
}

/// Returns whether a header keeps the rules of the ABI, in its order.
fn keeps_the_rules(image: &HeaderImage, address: usize, len: usize) -> bool {
    address % 4096 == 0
        && image.magic == MAGIC
        && image.major == 1
        && image.stride == 64
        && image.slots_offset % 64 == 0
        && image.slots_offset >= 4096
        && image.reserved == [0; 6]
        && (1..=4096).contains(&image.slots)
        && end_of(image) <= len as u128
}

#[kani::proof]
#[kani::unwind(7)]
fn a_header_is_taken_when_it_keeps_the_rules_and_only_then() {
    let (image, address, len) = (any_header(), kani::any(), kani::any());
    let judged = check_image(&image, address, len);
    kani::cover!(judged.is_ok(), "some header is good");
    assert!(judged.is_ok() == keeps_the_rules(&image, address, len));
}

#[kani::proof]
#[kani::unwind(7)]
fn a_header_that_is_refused_breaks_the_rule_it_is_refused_for() {
    let (image, address, len): (_, usize, usize) = (any_header(), kani::any(), kani::any());
    let named = match check_image(&image, address, len) {
        Ok(_) => return,
        Err(AttachError::Misaligned { address: at, align }) => {
            (at, align) == (address, 4096) && address % 4096 != 0
        }
        Err(AttachError::TooShort { need, have }) => {
            (need as u128, have) == (end_of(&image), len) && need > len
        }
        Err(AttachError::BadMagic { found }) => found == image.magic && found != MAGIC,
        Err(AttachError::MajorVersion { theirs, ours }) => {
            (theirs, ours) == (image.major, 1) && theirs != 1
        }
        Err(AttachError::BadStride { stride }) => stride == image.stride && stride != 64,
        Err(AttachError::BadSlotCount { slots, most }) => {
            (slots, most) == (image.slots.into(), 4096) && !(1..=4096).contains(&slots)
        }
        Err(AttachError::BadSlotsOffset { offset }) => {
            offset == image.slots_offset && (offset % 64 != 0 || offset < 4096)
        }
        Err(AttachError::ReservedNotZero { word, value }) => {
            (10..16).contains(&word) && value == image.reserved[word - 10] && value != 0
        }
        Err(AttachError::BareLength { .. } | AttachError::OutOfMemory { .. }) => false,
    };
    assert!(named);
}

/// Every access to a slot relies on this.
#[kani::proof]
#[kani::unwind(7)]
fn every_slot_of_a_queue_is_inside_its_memory_and_behind_the_header() {
    let (len, slot): (usize, u32) = (kani::any(), kani::any());
    let Ok((geometry, _)) = check_image(&any_header(), kani::any(), len) else {
        return;
    };
    kani::assume(slot < geometry.slots());
    kani::cover!(slot == 4095, "the last slot of the longest queue");
    let first = geometry.slot_word(slot);
    assert!(first >= 1024);
    assert!(first % 16 == 0);
    assert!((first + 16) * 4 <= len);
    assert!(geometry.groups() >> (slot / 64) & 1 == 1);
}

#[kani::proof]
fn every_slot_of_a_bare_queue_is_inside_its_memory() {
    let (len, slot): (usize, u32) = (kani::any(), kani::any());
    match Geometry::of_bare_bytes(len) {
        Ok(geometry) => {
            assert!(geometry.slots() as usize * 32 == len && len <= 64 * 32);
            kani::assume(slot < geometry.slots());
            assert!((geometry.slot_word(slot) + 8) * 4 <= len);
            assert!(geometry.groups() == 1);
        }
        Err(AttachError::BareLength { len: found }) => assert!(found == len && len % 32 != 0),
        Err(AttachError::BadSlotCount { slots, most }) => {
            assert!(len % 32 == 0 && (len == 0 || len > 64 * 32));
            assert!((slots, most) == (len as u64 / 32, 64));
        }
        Err(_) => unreachable!("no other rule"),
    }
}
