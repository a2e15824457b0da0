//! Decoding arbitrary words: what is accepted means exactly what the words say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vyre_ioq::abi::SlotImage;
use vyre_ioq::{Op, Request};

fuzz_target!(|words: [u32; 16]| {
    let [
        op,
        source,
        destination,
        low,
        high,
        count,
        status,
        tag,
        b_low,
        b_high,
        flags,
        deadline,
        ..,
    ] = words;
    let image = SlotImage {
        op,
        source,
        destination,
        file_offset_low: low,
        file_offset_high: high,
        count,
        status,
        tag,
        buffer_offset_low: b_low,
        buffer_offset_high: b_high,
        flags,
        deadline,
        reserved: [words[12], words[13], words[14], words[15]],
    };
    if let Ok(request) = Request::decode(&image) {
        assert_eq!(Op::from_word(op), Some(request.op));
        assert_eq!(request.flags.bits(), flags);
        assert!(request.op.flags().contains(request.flags));
        assert_eq!(request.file_offset, u64::from(low) | u64::from(high) << 32);
        assert_eq!(
            request.buffer_offset,
            u64::from(b_low) | u64::from(b_high) << 32
        );
        assert_eq!(
            (request.count, request.tag, request.deadline),
            (count, tag, deadline)
        );
        assert_eq!(image.reserved, [0; 4]);
    }
});
