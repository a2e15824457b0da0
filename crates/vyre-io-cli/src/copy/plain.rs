//! Copies of little data by system calls. To set up a queue and a loop for it, and to end them, would
//! take longer than to copy it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::blocks::{Block, Blocks};
use super::destination::Destination;
use super::pieces::Pieces;
use super::progress::Phase;
use super::source::Source;
use crate::args::{CopyArgs, DeviceArg, TransportArg};
use crate::failure::Failure;

/// The way that the report names.
pub(super) const NAME: &str = "system calls";
/// The largest number of bytes that are copied in this way.
const LITTLE: u64 = 32 << 20;
/// The size of blocks. Larger ones take longer (BENCHMARKS.md).
const BLOCK: u64 = 64 << 10;

/// Returns whether a source is to be copied by system calls: if it has little data, and if nothing was
/// asked for that takes a queue, or so long that the queue does not matter.
pub(super) fn suits(args: &CopyArgs, source: &Source) -> bool {
    let is_plain = matches!(args.device, DeviceArg::Threads) && !args.direct && args.no_sync;
    let is_tuned =
        args.block_size.is_some() || args.slots.is_some() || args.transport != TransportArg::Auto;
    is_plain
        && !args.verify
        && !is_tuned
        && source.len().is_some()
        && source.data().is_some_and(|data| data <= LITTLE)
}

/// Copies the data of a source whose length is known. Returns that length.
pub(super) fn copy(
    args: &CopyArgs,
    source: Source,
    destination: &Destination,
    len: u64,
) -> Result<u64, Failure> {
    let blocks = Blocks::new(len, BLOCK, 1)?;
    let holes = match source.may_have_holes() {
        true => vec![source.duplicate()?],
        false => Vec::new(),
    };
    let (opened, watched) = source.split()?;
    let (from, to) = (File::from(opened.fd), File::from(destination.duplicate()?));
    let phase = Phase::new("copy", Some(len));
    let pieces = Pieces::new(blocks, holes);
    let mut bytes = vec![0; blocks.size() as usize];
    while let Some(piece) = pieces.next() {
        let block = piece.block;
        let bytes = &mut bytes[..block.len as usize];
        read(&from, block, bytes, &args.src).map_err(|failure| watched.explain(failure))?;
        to.write_all_at(bytes, block.offset)
            .map_err(|error| Failure::file("write", &args.dst, error))?;
        phase.add(piece.skipped + u64::from(block.len));
    }
    destination.trim(len)?;
    watched.check(len)?;
    Ok(len)
}

/// Reads a whole block.
fn read(file: &File, block: Block, bytes: &mut [u8], path: &Path) -> Result<(), Failure> {
    let mut found = 0;
    while found < bytes.len() {
        match file.read_at(&mut bytes[found..], block.offset + found as u64) {
            Ok(0) => {
                return Err(Failure::SourceChanged {
                    path: path.into(),
                    offset: block.offset,
                    expected: block.len,
                    found: found as u32,
                });
            }
            Ok(more) => found += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::file("read", path, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn suits_with(source: &Path, options: &str) -> bool {
        let line = ["vyre-io", "copy"]
            .into_iter()
            .chain(options.split_whitespace());
        let paths = [source.as_os_str().to_owned(), "/nowhere/copy".into()];
        let args = Args::parse_from(line.map(Into::into).chain(paths));
        let Command::Copy(args) = args.command else {
            unreachable!("copy was asked for")
        };
        suits(&args, &Source::open(source, args.direct).unwrap())
    }

    #[test]
    fn only_little_data_is_copied_without_a_loop() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let little = directory.path().join("little");
        fs::write(&little, vec![1; 1 << 20]).unwrap();
        assert!(suits_with(&little, "--no-sync"));
        for option in [
            "",
            "--no-sync --verify",
            "--no-sync --block-size 4k",
            "--no-sync --slots 8",
        ] {
            assert!(!suits_with(&little, option), "{option}");
        }
        let much = directory.path().join("much");
        fs::write(&much, vec![1; LITTLE as usize + 1]).unwrap();
        assert!(!suits_with(&much, "--no-sync"));
        assert!(
            !suits_with(Path::new("/proc/self/status"), "--no-sync"),
            "of unknown length"
        );
    }

    #[test]
    fn a_source_that_ends_early_is_reported_with_the_place() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = directory.path().join("short");
        fs::write(&path, [7; 1000]).unwrap();
        let block = Block {
            offset: 600,
            len: 500,
            ask: 500,
        };
        let read = read(&File::open(&path).unwrap(), block, &mut [0; 500], &path);
        let found = match read {
            Err(Failure::SourceChanged {
                offset: 600, found, ..
            }) => found,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, 400);
    }
}
