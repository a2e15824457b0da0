#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vyre_hostile::targets::attach(bytes));
