//! A map of the pages of a mapping that are in memory.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::param::page_size;
use rustix::process::geteuid;

use crate::mapping::Mapping;

/// The number of pages in a word of the map.
const PAGES: usize = u64::BITS as usize;

/// The number of words that one question to the kernel fills.
const WORDS: usize = 8;

/// How a scan found out what is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// By mincore(2): all pages in the page cache were found.
    PageCache,
    /// By `/proc/self/pagemap`: pages in the page cache were found only if they are mapped, by an earlier
    /// copy or [`Mapping::populate`]. mincore(2) tells this process nothing about the file, since
    /// another user owns it: it reports every page as resident.
    PageTables,
}

/// The pages of a mapping that were in memory at the last scan.
///
/// A helper thread [scans](Self::scan), and threads that copy [ask](Self::contains), without a lock. The
/// answer may be out of date. A copy of a page that has left memory still succeeds, but waits
/// until the page is read in.
#[derive(Debug)]
pub struct Residency {
    mapping: Arc<Mapping>,
    words: Box<[AtomicU64]>,
}

impl Residency {
    /// Creates a map in which no page is in memory.
    pub fn new(mapping: Arc<Mapping>) -> Self {
        let words = mapping.pages().count().div_ceil(PAGES);
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            mapping,
        }
    }

    /// Returns the mapping.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Returns whether all pages of a range of the file were in memory at the last scan. Returns `false`
    /// for a range that is not inside the mapping.
    #[inline]
    pub fn contains(&self, range: Range<u64>) -> bool {
        let Some((offset, len)) = self.mapping.locate(&range) else {
            return false;
        };
        let (mut page, end) = (offset / page_size(), (offset + len).div_ceil(page_size()));
        while page < end {
            let count = (end - page).min(PAGES - page % PAGES);
            let mask = (u64::MAX >> (PAGES - count)) << (page % PAGES);
            // Relaxed: the bits are hints, and guard no other memory.
            if self.words[page / PAGES].load(Relaxed) & mask != mask {
                return false;
            }
            page += count;
        }
        true
    }

    /// Returns the number of pages that were in memory at the last scan.
    pub fn count(&self) -> usize {
        // Relaxed: as in `contains`.
        let ones = self
            .words
            .iter()
            .map(|word| word.load(Relaxed).count_ones());
        ones.sum::<u32>() as usize
    }

    /// Finds out which pages are in memory: those of a part of the range, rounded outwards to
    /// groups of 64 pages. Call it on a thread that may wait: a scan of 1 GiB takes up to about 20
    /// ms. To limit the rate, scan in parts.
    ///
    /// # Errors
    /// - [`Errno::INVAL`] if the part is not inside the mapping.
    /// - Another errno if the kernel does not answer. Pages that were not asked about keep their bits.
    pub fn scan(&self, part: Range<u64>) -> Result<Source, Errno> {
        let (offset, len) = self.mapping.locate(&part).ok_or(Errno::INVAL)?;
        let group = page_size() * PAGES;
        let mut word = offset / group;
        let end = (offset + len).div_ceil(group);
        let source = self.source()?;
        let pagemap = match source {
            Source::PageCache => None,
            Source::PageTables => Some(File::open("/proc/self/pagemap").map_err(errno_of)?),
        };
        while word < end {
            let words = &self.words[word..end.min(word + WORDS)];
            let pages = self.mapping.pages();
            let first = word * PAGES;
            let count = (pages.count() - first).min(words.len() * PAGES);
            let mut resident = [0; WORDS * PAGES];
            match &pagemap {
                None => pages.in_page_cache(first, &mut resident[..count])?,
                Some(file) => in_page_tables(
                    file,
                    pages.address() + first * page_size(),
                    &mut resident[..count],
                )?,
            }
            for (word, pages) in words.iter().zip(resident.chunks_exact(PAGES)) {
                let bits = pages
                    .iter()
                    .rev()
                    .fold(0, |bits, page| bits << 1 | u64::from(page & 1));
                // Relaxed: as in `contains`.
                word.store(bits, Relaxed);
            }
            word += words.len();
        }
        Ok(source)
    }

    /// Maps the pages of a part that were in memory at the last scan.
    pub(crate) fn map_resident(&self, part: Range<u64>) {
        let Some((offset, len)) = self.mapping.locate(&part) else {
            return;
        };
        let end = (offset + len).div_ceil(page_size());
        let mut page = offset / page_size();
        while page < end {
            let start = page;
            while page < end && self.has_page(page) {
                page += 1;
            }
            if page > start {
                // A failure leaves the pages to the page faults of copies.
                let (offset, len) = (start * page_size(), (page - start) * page_size());
                let _ = self.mapping.pages().populate(offset, len);
            }
            page += 1;
        }
    }

    fn has_page(&self, page: usize) -> bool {
        // Relaxed: as in `contains`.
        self.words[page / PAGES].load(Relaxed) >> (page % PAGES) & 1 == 1
    }

    /// Finds out whether mincore(2) tells the truth: it does to the owner of the file. It also does
    /// so to others who may write the file, but rights change, and a wrong answer would go
    /// unnoticed.
    fn source(&self) -> Result<Source, Errno> {
        let owner = fstat(self.mapping.file())?.st_uid;
        Ok(if owner == geteuid().as_raw() {
            Source::PageCache
        } else {
            Source::PageTables
        })
    }
}

/// Stores 1 for each page from an address on that is mapped, and 0 for others.
fn in_page_tables(pagemap: &File, address: usize, pages: &mut [u8]) -> Result<(), Errno> {
    /// The number of bytes of an entry, and the bit by which it says that its page is mapped.
    const ENTRY: usize = 8;
    const PRESENT: u64 = 1 << 63;
    let mut entries = [0; WORDS * PAGES * ENTRY];
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

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::io::pwrite;

    use super::*;

    #[test]
    fn pages_in_memory_are_mapped_and_no_others() {
        let file = memfd_create("vyre-mapped", MemfdFlags::empty()).unwrap();
        ftruncate(&file, 70 * page_size() as u64).unwrap();
        for page in [0, 1, 3, 69] {
            pwrite(&file, &[1], page * page_size() as u64).unwrap();
        }
        let mapping = Arc::new(Mapping::new(&file, 0..70 * page_size() as u64).unwrap());
        let residency = Residency::new(mapping.clone());
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mapped = || {
            let mut pages = [9; 70];
            in_page_tables(&pagemap, mapping.pages().address(), &mut pages).unwrap();
            let mapped = (0..70).filter(|&page| pages[page] == 1);
            mapped.collect::<Vec<_>>()
        };
        residency.map_resident(mapping.range());
        assert_eq!(mapped(), [], "nothing was scanned");
        residency.scan(mapping.range()).unwrap();
        residency.map_resident(mapping.range());
        assert_eq!(mapped(), [0, 1, 3, 69]);
    }
}
