//! Stamps of a benchmark's file: every 512 bytes contain their own offset.
//!
//! A sector is a magic number, its own index in the file, a checksum of the two, and a fill that
//! depends on the index. So any read that is aligned to sectors can be verified, whatever the
//! block size of the run that wrote it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::xxh3_64;

/// Bytes that carry one stamp.
pub const SECTOR: usize = 512;
/// Bytes written at once while a file is filled. ext4 keeps what one write brings in pages as large as fit it, and
/// pages of 2 MiB are mapped as such.
const CHUNK: usize = 4 << 20;
const MAGIC: u64 = u64::from_le_bytes(*b"vyrestmp");
const WORD: usize = size_of::<u64>();

fn head(index: u64) -> [u64; 3] {
    let mut bytes = [0; 2 * WORD];
    bytes[..WORD].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[WORD..].copy_from_slice(&index.to_le_bytes());
    [MAGIC, index, xxh3_64(&bytes)]
}

/// Stamps whole sectors, the first of which is at `offset` of the file.
pub fn write(offset: u64, bytes: &mut [u8]) {
    let first = offset / SECTOR as u64;
    for (index, sector) in (first..).zip(bytes.chunks_exact_mut(SECTOR)) {
        let head = head(index);
        let fill = head[2];
        for (number, word) in sector.chunks_exact_mut(WORD).enumerate() {
            let value = *head.get(number).unwrap_or(&fill);
            word.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Returns whether sectors contain the stamps of [`write`].
pub fn is_intact(offset: u64, bytes: &[u8]) -> bool {
    let first = offset / SECTOR as u64;
    (first..)
        .zip(bytes.chunks_exact(SECTOR))
        .all(|(index, sector)| {
            let head = head(index);
            let fill = head[2];
            sector.chunks_exact(WORD).enumerate().all(|(number, word)| {
                let expected = *head.get(number).unwrap_or(&fill);
                word == expected.to_le_bytes()
            })
        })
}

/// Returns the offset for which the first sector was stamped. `None` if it has no stamp.
pub fn offset_of(bytes: &[u8]) -> Option<u64> {
    let words = bytes.first_chunk::<{ 2 * WORD }>()?;
    let (magic, index) = words.split_at(WORD);
    let index = u64::from_le_bytes(index.try_into().ok()?);
    (magic == MAGIC.to_le_bytes()).then(|| index.checked_mul(SECTOR as u64))?
}

/// Fills an empty file with `size` bytes of stamped sectors.
///
/// # Errors
/// Returns the kernel's error for a write or for the sync.
pub fn fill(file: &File, size: u64) -> io::Result<()> {
    fill_part(file, 0, size)
}

/// The same for a file that is a part of a larger whole: its first sector has the stamp of `first`.
///
/// # Errors
/// The same as for [`fill`].
pub fn fill_part(mut file: &File, first: u64, size: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    while offset < size {
        let len = (size - offset).min(CHUNK as u64) as usize;
        write(first + offset, &mut chunk[..len]);
        file.write_all(&chunk[..len])?;
        offset += len as u64;
    }
    // Else the kernel writes it back during the measurement.
    file.sync_all()
}

/// Returns whether a file begins with a stamp.
pub fn begins(file: &File) -> bool {
    let mut sector = [0; SECTOR];
    file.read_exact_at(&mut sector, 0).is_ok() && is_intact(0, &sector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let mut bytes = vec![0; 2 * SECTOR];
        write(4096, &mut bytes);
        assert!(is_intact(4096, &bytes));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(!is_intact(4096, &bytes), "byte {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn a_stamp_says_where_it_belongs() {
        let mut bytes = vec![0; SECTOR];
        assert_eq!(offset_of(&bytes), None);
        write(4096, &mut bytes);
        assert_eq!(offset_of(&bytes), Some(4096));
        assert_eq!(offset_of(&bytes[..8]), None);
    }

    #[test]
    fn a_sector_from_elsewhere_is_noticed() {
        let mut bytes = vec![0; SECTOR];
        write(4096, &mut bytes);
        assert!(!is_intact(4096 + SECTOR as u64, &bytes));
    }
}
