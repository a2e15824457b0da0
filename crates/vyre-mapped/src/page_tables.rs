//! The pages that are mapped in this process, by `/proc/self/pagemap`.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use rustix::param::page_size;

/// The number of bytes of an entry, and the bit by which it says that its page is mapped.
const ENTRY: usize = 8;
const PRESENT: u64 = 1 << 63;

/// The largest number of entries that are read at once.
pub(crate) const ENTRIES: usize = 512;

/// Stores 1 for each page from an address on that is mapped, and 0 for others: [`ENTRIES`] pages at most.
pub(crate) fn in_page_tables(
    pagemap: &File,
    address: usize,
    pages: &mut [u8],
) -> Result<(), Errno> {
    let mut entries = [0; ENTRIES * ENTRY];
    let entries = &mut entries[..pages.len() * ENTRY];
    let at = (address / page_size() * ENTRY) as u64;
    pagemap.read_exact_at(entries, at).map_err(errno_of)?;
    for (page, entry) in pages.iter_mut().zip(entries.chunks_exact(ENTRY)) {
        let entry = entry
            .iter()
            .rev()
            .fold(0, |entry, &byte| entry << 8 | u64::from(byte));
        *page = u8::from(entry & PRESENT != 0);
    }
    Ok(())
}

/// Returns the number of the first page that is not mapped, of those from an address on.
pub(crate) fn first_unmapped(address: usize, pages: Range<usize>) -> Result<Option<usize>, Errno> {
    let pagemap = File::open("/proc/self/pagemap").map_err(errno_of)?;
    let mut mapped = [0; ENTRIES];
    let mut next = pages.start;
    while next < pages.end {
        let mapped = &mut mapped[..(pages.end - next).min(ENTRIES)];
        in_page_tables(&pagemap, address + next * page_size(), mapped)?;
        if let Some(index) = mapped.iter().position(|&mapped| mapped == 0) {
            return Ok(Some(next + index));
        }
        next += mapped.len();
    }
    Ok(None)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
