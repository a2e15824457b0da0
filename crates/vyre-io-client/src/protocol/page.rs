//! Pages: lists that may be longer than a message.

use super::messages::{FileEntry, PageHead, PeerStatus};
use super::packet::DecodeError;
use super::record::Record;
use super::sizes::{HEADER_BYTES, MESSAGE_BYTES};

/// An entry of a page.
#[expect(private_bounds, reason = "the entries are those of this protocol")]
pub trait Entry: Record + Copy {
    /// Name of the message.
    const MESSAGE: &'static str;
}

impl Entry for FileEntry {
    const MESSAGE: &'static str = "FILES";
}

impl Entry for PeerStatus {
    const MESSAGE: &'static str = "STATUS_IS";
}

/// A page of a list: some entries, and the cursor of the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<E> {
    next: u64,
    entries: Vec<E>,
}

/// More entries than a page can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} entries, where a page has at most {most}: send them in several pages")]
pub struct TooManyEntries {
    /// Number of entries.
    pub count: usize,
    /// Most entries of a page.
    pub most: usize,
}

impl<E: Entry> Page<E> {
    /// Most entries of a page.
    pub const MOST: usize =
        (MESSAGE_BYTES as usize - HEADER_BYTES as usize - PageHead::BYTES) / E::BYTES;

    /// Creates a page. `next` is the cursor of the page after it, or 0 if there is none.
    ///
    /// # Errors
    /// [`TooManyEntries`] if there are more than [`MOST`](Self::MOST).
    pub fn new(entries: Vec<E>, next: u64) -> Result<Self, TooManyEntries> {
        if entries.len() > Self::MOST {
            return Err(TooManyEntries {
                count: entries.len(),
                most: Self::MOST,
            });
        }
        Ok(Self { next, entries })
    }

    /// Returns the cursor of the next page, or 0 if this is the last.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Returns the entries.
    pub fn entries(&self) -> &[E] {
        &self.entries
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let head = PageHead {
            next: self.next,
            count: self.entries.len() as u32,
            entry_bytes: E::BYTES as u32,
        };
        head.put(out);
        for entry in &self.entries {
            entry.put(out);
        }
    }

    /// Reads a page. Entries of a later minor version are longer: what is behind the known fields is ignored, as
    /// is what stands between the head and the entries.
    pub(super) fn get(body: &[u8]) -> Result<Self, DecodeError> {
        let PageHead {
            next,
            count,
            entry_bytes,
        } = PageHead::get(body)?;
        let bad = DecodeError::BadEntries {
            name: E::MESSAGE,
            count,
            entry_bytes,
        };
        if count == 0 {
            let entries = Vec::new();
            return Ok(Self { next, entries });
        }
        let room = body.len() - PageHead::BYTES;
        let each = entry_bytes as usize;
        let all = each.checked_mul(count as usize).filter(|&all| all <= room);
        let all = all.filter(|_| each >= E::BYTES).ok_or(bad)?;
        let entries = body[body.len() - all..].chunks_exact(each).map(E::get);
        let entries = entries.collect::<Result<Vec<E>, _>>()?;
        Ok(Self { next, entries })
    }
}
