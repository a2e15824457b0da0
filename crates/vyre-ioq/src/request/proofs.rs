//! Proofs about every image of a slot. Only `cargo kani` runs them.

use super::{BufferHandle, DecodeError, FileHandle, Flags, Op, Request};
use crate::abi::SlotImage;

fn any_image() -> SlotImage {
    bytemuck::cast(kani::any::<[u32; 16]>())
}

/// Returns the flags that an operation takes by the table of the ABI, or `None` for no operation.
fn flags_of(op: u32) -> Option<u32> {
    match op {
        1 => Some(2),
        2 => Some(1 | 2),
        3..=6 => Some(0),
        _ => None,
    }
}

#[kani::proof]
fn decode_takes_what_the_abi_allows_and_nothing_else() {
    let image = any_image();
    let flags_fit = flags_of(image.op).is_some_and(|flags| image.flags & !flags == 0);
    let good = flags_fit && image.reserved == [0; 4];
    let decoded = Request::decode(&image);
    kani::cover!(decoded.is_ok(), "some image is good");
    assert!(decoded.is_ok() == good);
}

#[kani::proof]
fn decode_names_the_first_rule_that_is_broken() {
    let image = any_image();
    let Err(error) = Request::decode(&image) else {
        return;
    };
    let known_flags = image.flags & !(1 | 2) == 0;
    let taken = flags_of(image.op);
    let flags_fit = taken.is_some_and(|flags| image.flags & !flags == 0);
    let named = match error {
        DecodeError::UnknownOp(op) => taken.is_none() && op == image.op,
        DecodeError::UnknownFlag(flags) => taken.is_some() && !known_flags && flags == image.flags,
        DecodeError::ForeignFlag(op, flags) => {
            let words = (op as u32, flags.bits());
            taken.is_some() && known_flags && !flags_fit && words == (image.op, image.flags)
        }
        DecodeError::ReservedNotZero(words) => {
            flags_fit && words == image.reserved && words != [0; 4]
        }
    };
    kani::cover!(matches!(error, DecodeError::UnknownOp(_)), "operation");
    kani::cover!(matches!(error, DecodeError::UnknownFlag(_)), "flag");
    kani::cover!(matches!(error, DecodeError::ForeignFlag(..)), "foreign");
    kani::cover!(matches!(error, DecodeError::ReservedNotZero(_)), "reserved");
    assert!(named);
}

#[kani::proof]
fn decode_and_encode_lose_no_word_but_the_status() {
    let image = any_image();
    if let Ok(request) = Request::decode(&image) {
        kani::cover!(true, "some image is good");
        assert!(request.encode() == SlotImage { status: 0, ..image });
    }
}

#[kani::proof]
fn every_request_that_can_be_built_is_a_good_one() {
    let (file, buffer) = (
        FileHandle::from_raw(kani::any()),
        BufferHandle::from_raw(kani::any()),
    );
    let (offset, count) = (kani::any(), kani::any());
    let (read, write) = (
        Request::read(file, offset, count).into_buffer(buffer, kani::any()),
        Request::write(file, offset, count).from_buffer(buffer, kani::any()),
    );
    let request = match kani::any::<u8>() {
        0 => read,
        1 => read.exact(),
        2 => write,
        3 => write.exact(),
        4 => write.durable(),
        5 => write.durable().exact(),
        6 => Request::fence(),
        7 => Request::sync(file),
        8 => Request::map(file, offset, count),
        _ => Request::prefetch(file, offset, count),
    };
    let request = request.with_tag(kani::any()).with_deadline(kani::any());
    assert!(Request::decode(&request.encode()) == Ok(request));
}

#[kani::proof]
fn an_operation_has_one_word() {
    let word = kani::any();
    let op = Op::from_word(word);
    assert!(op.is_some() == flags_of(word).is_some());
    if let Some(op) = op {
        assert!(op as u32 == word);
        assert!(Some(op.flags()) == flags_of(word).map(Flags::from_bits_retain));
    }
}
