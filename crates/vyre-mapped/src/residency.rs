//! A map of the pages of a mapping that are in memory.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::param::page_size;
use rustix::process::geteuid;

use crate::mapping::Mapping;
use crate::page_map::{PAGES, PageMap};
use crate::page_tables::{ENTRIES, errno_of, in_page_tables};

/// The number of words that one question to the kernel fills.
const WORDS: usize = ENTRIES / PAGES;

/// The source from which a scan learned which pages are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// mincore(2): all pages in the page cache were found.
    PageCache,
    /// `/proc/self/pagemap`: pages in the page cache were found only if they are mapped, by an earlier
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
    pages: PageMap,
    /// The logarithm of the page size.
    page_shift: u32,
    scans: AtomicU64,
}

impl Residency {
    /// Creates a map in which no page is in memory.
    pub fn new(mapping: Arc<Mapping>) -> Self {
        Self {
            pages: PageMap::new(mapping.pages().count()),
            mapping,
            page_shift: page_size().trailing_zeros(),
            scans: AtomicU64::new(0),
        }
    }

    /// Returns the mapping.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Returns whether all pages of a range of the file were in memory at the last scan. Returns `false`
    /// for a range that is not inside the mapping.
    #[inline(always)]
    pub fn contains(&self, range: Range<u64>) -> bool {
        let Some((offset, len)) = self.mapping.locate(&range) else {
            return false;
        };
        self.pages.contains(self.pages_of(offset, len))
    }

    /// Notes that the pages of a range are not in memory, after a copy of it failed. The next scan finds
    /// out anew. Does nothing for a range that is not inside the mapping.
    pub fn forget(&self, range: Range<u64>) {
        if let Some((offset, len)) = self.mapping.locate(&range) {
            self.pages.forget(self.pages_of(offset, len));
        }
    }

    /// Returns the pages that hold a part of the mapping.
    #[inline]
    fn pages_of(&self, offset: usize, len: usize) -> Range<usize> {
        let end = (offset + len + (1 << self.page_shift) - 1) >> self.page_shift;
        offset >> self.page_shift..end
    }

    /// Returns how often a [`Watcher`](crate::Watcher) has scanned the whole mapping.
    pub fn scans(&self) -> u64 {
        // Relaxed: the number is a hint.
        self.scans.load(Relaxed)
    }

    pub(crate) fn count_scan(&self) {
        // Relaxed: as in `scans`.
        self.scans.fetch_add(1, Relaxed);
    }

    /// Returns the number of pages that were in memory at the last scan.
    pub fn count(&self) -> usize {
        self.pages.count()
    }

    /// Finds out which pages are in memory: those of a part of the range, rounded outwards to
    /// groups of 64 pages. Call it on a thread that may wait: a scan of 1 GiB takes up to about 20
    /// ms. To limit the rate, scan in parts.
    ///
    /// # Errors
    /// - [`Errno::INVAL`] if the part is not inside the mapping.
    /// - Another errno if the kernel does not answer. Pages that were not asked about keep their bits.
    pub fn scan(&self, part: Range<u64>) -> Result<Source, Errno> {
        self.scan_words(&part, |_, _| ()).map(|(source, _)| source)
    }

    /// Scans a part, and maps the pages that it finds in memory and the last scan did not. Returns how many pages it
    /// has found in memory.
    pub(crate) fn scan_and_map(&self, part: &Range<u64>) -> usize {
        let page = page_size();
        let scanned = self.scan_words(part, |word, mut new| {
            while new != 0 {
                let first = new.trailing_zeros();
                let count = (new >> first).trailing_ones();
                let offset = (word * PAGES + first as usize) * page;
                // A failure leaves the pages to the page faults of copies.
                let _ = self.mapping.pages().populate(offset, count as usize * page);
                new &= u64::MAX.checked_shl(first + count).unwrap_or(0);
            }
        });
        // A scan that fails leaves the map as it was; the next one may succeed.
        scanned.map_or(0, |(_, resident)| resident)
    }

    /// Finds out which pages of a part are in memory. Passes each word of the map to `found`, with its
    /// new bits. Returns the source and the number of the pages in memory.
    fn scan_words(
        &self,
        part: &Range<u64>,
        found: impl Fn(usize, u64),
    ) -> Result<(Source, usize), Errno> {
        let (offset, len) = self.mapping.locate(part).ok_or(Errno::INVAL)?;
        let group = page_size() * PAGES;
        let mut word = offset / group;
        let end = (offset + len).div_ceil(group);
        let source = self.source()?;
        let mut in_memory = 0;
        let pagemap = match source {
            Source::PageCache => None,
            Source::PageTables => Some(File::open("/proc/self/pagemap").map_err(errno_of)?),
        };
        while word < end {
            let words = (end - word).min(WORDS);
            let pages = self.mapping.pages();
            let first = word * PAGES;
            let count = (pages.count() - first).min(words * PAGES);
            let mut resident = [0; WORDS * PAGES];
            match &pagemap {
                None => pages.in_page_cache(first, &mut resident[..count])?,
                Some(file) => in_page_tables(
                    file,
                    pages.address() + first * page_size(),
                    &mut resident[..count],
                )?,
            }
            for (index, pages) in (word..).zip(resident.chunks_exact(PAGES).take(words)) {
                let bits = pages
                    .iter()
                    .rev()
                    .fold(0, |bits, page| bits << 1 | u64::from(page & 1));
                in_memory += bits.count_ones() as usize;
                found(index, self.pages.replace(index, bits));
            }
            word += words;
        }
        Ok((source, in_memory))
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

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::io::pwrite;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
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
        assert_eq!(mapped(), [], "nothing was scanned");
        assert_eq!(residency.scan_and_map(&mapping.range()), 4);
        assert_eq!(mapped(), [0, 1, 3, 69]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn forgotten_pages_are_missing_until_the_next_scan() {
        let file = memfd_create("vyre-mapped", MemfdFlags::empty()).unwrap();
        let page = page_size() as u64;
        ftruncate(&file, 130 * page).unwrap();
        let whole = vec![1; 130 * page as usize];
        pwrite(&file, &whole, 0).unwrap();
        let mapping = Arc::new(Mapping::new(&file, 0..130 * page).unwrap());
        let residency = Residency::new(mapping.clone());
        residency.scan(mapping.range()).unwrap();
        assert_eq!(residency.count(), 130);
        residency.forget(60 * page + 1..66 * page);
        assert_eq!(residency.count(), 124);
        assert!(residency.contains(0..60 * page) && residency.contains(66 * page..130 * page));
        for at in 60..66 {
            assert!(!residency.contains(at * page..at * page + 1), "{at}");
        }
        residency.forget(0..131 * page);
        assert_eq!(residency.count(), 124, "not inside the mapping");
        residency.scan(mapping.range()).unwrap();
        assert_eq!(residency.count(), 130);
    }
}
