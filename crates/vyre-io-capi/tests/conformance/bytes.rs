//! Patterns and checksums.

/// Returns the bytes of a pattern.
pub(crate) fn pattern(seed: u64, count: u64) -> Vec<u8> {
    let byte = |i: u64| (seed + 31 * i + i / 256) % 256;
    (0..count).map(|i| byte(i) as u8).collect()
}

/// Returns the FNV-1a checksum.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
