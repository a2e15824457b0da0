//! Attaching to arbitrary bytes: an error or a queue whose every slot is inside the bytes.
#![no_main]

use std::ptr::NonNull;

use libfuzzer_sys::fuzz_target;
use vyre_ioq::{DeviceQueue, HostQueue, Region, Request};

/// Page-aligned words, so that only the bytes decide.
#[repr(C, align(4096))]
struct Memory([u32; 4096]);

fuzz_target!(|bytes: &[u8]| {
    let mut memory = Box::new(Memory([0; 4096]));
    let len = bytes.len().min(size_of::<Memory>());
    for (word, chunk) in memory.0.iter_mut().zip(bytes[..len].chunks(4)) {
        let mut padded = [0; 4];
        padded[..chunk.len()].copy_from_slice(chunk);
        *word = u32::from_le_bytes(padded);
    }
    let base = NonNull::new(Box::into_raw(memory).cast::<u8>()).expect("a box");
    // SAFETY: the box lives until the end of this closure and is accessed through the region alone.
    let region = unsafe { Region::from_raw_parts(base, len) }.expect("aligned");
    if let Ok(device) = DeviceQueue::attach(region.clone())
        && let Ok(ticket) = device.submit(Request::fence())
    {
        assert!(device.geometry().bytes() <= len);
        let _ = device.poll(&ticket);
    }
    if let Ok(mut host) = HostQueue::attach_bare(region.clone()) {
        assert_eq!(host.geometry().bytes(), len);
        host.claim_published(0..u32::MAX, |_| {});
    }
    drop(region);
    // SAFETY: it came from a box, and no region names it any more.
    drop(unsafe { Box::from_raw(base.as_ptr().cast::<Memory>()) });
});
