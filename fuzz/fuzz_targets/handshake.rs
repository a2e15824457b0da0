#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vyre_fuzz_harness::targets::handshake(bytes));
