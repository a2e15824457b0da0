//! Selection of the parts of a file to copy, and their division into blocks.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::blocks::{Block, Blocks};

/// Source of the blocks that hold data. Lanes take blocks from it.
pub(super) struct Pieces {
    blocks: Blocks,
    /// Files whose data counts. Other parts are holes in all of them. Without files, all is data.
    files: Vec<OwnedFd>,
    cursor: Mutex<Cursor>,
}

/// Position up to which blocks were taken.
struct Cursor {
    at: u64,
    /// End of the data that contains `at`.
    end: u64,
}

/// Block to work on, and the length of the holes before it.
pub(super) struct Piece {
    pub(super) block: Block,
    /// Number of bytes of holes before the block.
    pub(super) skipped: u64,
}

impl Pieces {
    pub(super) fn new(blocks: Blocks, files: Vec<OwnedFd>) -> Self {
        let end = if files.is_empty() { blocks.len() } else { 0 };
        Self {
            blocks,
            files,
            cursor: Mutex::new(Cursor { at: 0, end }),
        }
    }

    /// Takes the next block.
    pub(super) fn next(&self) -> Option<Piece> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let before = cursor.at;
        if cursor.at >= cursor.end {
            let (start, end) = self.data(cursor.at)?;
            *cursor = Cursor { at: start, end };
        }
        let block = self.blocks.piece(cursor.at, cursor.end)?;
        let skipped = cursor.at - before;
        cursor.at += u64::from(block.len);
        Some(Piece { block, skipped })
    }

    /// Returns the first range of data at or after an offset, as start and end.
    fn data(&self, at: u64) -> Option<(u64, u64)> {
        let (len, granularity) = (self.blocks.len(), self.blocks.granularity());
        if at >= len {
            return None;
        }
        let extents = self.files.iter().filter_map(|file| extent(file, at, len));
        // Data of one file ends where that of the other goes on: the rest is found next.
        let (start, end) = extents.min()?;
        let start = (start - start % granularity).max(at);
        let end = end.checked_next_multiple_of(granularity).unwrap_or(len);
        Some((start, end.min(len)))
    }

    /// Returns the holes of the first file.
    pub(super) fn holes(&self) -> Vec<(u64, u64)> {
        let (mut at, len) = (0, self.blocks.len());
        let mut holes = Vec::new();
        while let (true, Some(file)) = (at < len, self.files.first()) {
            let (start, end) = extent(file, at, len).unwrap_or((len, len));
            if start > at {
                holes.push((at, start - at));
            }
            at = end;
        }
        holes
    }
}

/// Returns the first range of data of a file at or after an offset. If the file system does not
/// report holes, the whole file counts as data.
fn extent(file: &OwnedFd, at: u64, len: u64) -> Option<(u64, u64)> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) if start < len => {
            let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(len);
            Some((start, if end > start { end.min(len) } else { len }))
        }
        Ok(_) | Err(Errno::NXIO) => None,
        Err(_) => Some((at, len)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn parts(pieces: &Pieces) -> Vec<(u64, u64, u64)> {
        std::iter::from_fn(|| pieces.next())
            .map(|piece| {
                (
                    piece.skipped,
                    piece.block.offset,
                    u64::from(piece.block.len),
                )
            })
            .collect()
    }

    #[test]
    fn pieces_cover_a_file_exactly() {
        for (len, size, granularity) in [
            (0, 4096, 1),
            (1, 4096, 1),
            (10_000, 4096, 512),
            (8192, 4096, 4096),
        ] {
            let pieces = Pieces::new(Blocks::new(len, size, granularity).expect("fit"), vec![]);
            let mut end = 0;
            while let Some(Piece { block, skipped }) = pieces.next() {
                assert_eq!((block.offset, skipped), (end, 0));
                assert!(u64::from(block.ask).is_multiple_of(granularity));
                assert!(block.ask >= block.len && u64::from(block.ask) <= size);
                end += u64::from(block.len);
            }
            assert_eq!(end, len);
        }
    }

    /// Tests something only on a file system with holes. Elsewhere the whole file counts as data,
    /// which is correct too.
    #[test]
    fn holes_are_skipped_unless_another_file_has_data_there() {
        const M: u64 = 1 << 20;
        let file = |data: &[u64]| {
            let file = tempfile::tempfile().expect("room");
            file.set_len(8 * M).expect("room");
            for at in data {
                file.write_all_at(&vec![1; M as usize], at * M)
                    .expect("room");
            }
            file
        };
        let fd = |file: &File| OwnedFd::from(file.try_clone().expect("a descriptor"));
        let (one, other) = (file(&[1, 6]), file(&[3]));
        if extent(&fd(&one), 0, 8 * M) != Some((M, 2 * M)) {
            let line = b"SKIPPED: holes_are_skipped: temporary files have no holes of 1 MiB\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line);
            return;
        }
        let blocks = Blocks::new(8 * M, M, 512).expect("fit");
        let pieces = Pieces::new(blocks, vec![fd(&one)]);
        assert_eq!(parts(&pieces), [(M, M, M), (4 * M, 6 * M, M)]);
        assert_eq!(pieces.holes(), [(0, M), (2 * M, 4 * M), (7 * M, M)]);
        let pieces = Pieces::new(blocks, vec![fd(&one), fd(&other)]);
        assert_eq!(
            parts(&pieces),
            [(M, M, M), (M, 3 * M, M), (2 * M, 6 * M, M)]
        );
    }
}
