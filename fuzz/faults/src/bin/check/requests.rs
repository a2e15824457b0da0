//! Checks of requests on a file of the directory.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::OFlags;
use vyre_faults::rig::{Parts, ask, assert_holds, holds, outcome_of, queue, submit};
use vyre_faults::{eventually, pattern};
use vyre_ioloop::{FileOptions, IoLoop, LoopOptions, Rights, TableError};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Request};
use vyre_uring::Buffer;

use crate::{Check, Passed, Place};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("write, read", write_read),
    ("direct", direct),
    ("FENCE, SYNC", fence_sync),
    ("DURABLE", durable),
    ("EXACT", exact),
    ("end of file", end_of_file),
    ("PREFETCH", prefetch),
    ("many at once", many_at_once),
    ("revocation", revocation),
    ("page-cache reads", page_cache_reads),
];

const MIB: usize = 1 << 20;

/// A loop with one file and one buffer. The file is removed at the end.
struct Stand {
    io: IoLoop,
    device: DeviceQueue,
    file: FileHandle,
    pool: BufferHandle,
    memory: Buffer,
    path: PathBuf,
}

impl Stand {
    /// Returns a stand whose file is `len` bytes of [`pattern`], opened with these flags.
    fn new(place: &Place, len: usize, flags: OFlags) -> std::io::Result<Self> {
        let (path, file) = open(place, len, flags)?;
        Ok(Self::with(place, path, file, Rights::all().into()).expect("a file with all rights"))
    }

    fn with(
        place: &Place,
        path: PathBuf,
        file: File,
        options: FileOptions,
    ) -> Result<Self, TableError> {
        let mut parts = Parts::new(8 * MIB);
        let file = parts.files.insert(file, options)?;
        let (memory, pool) = (parts.memory.clone(), parts.pool);
        let (host, device) = queue(64);
        let options = LoopOptions::new().transport(place.transport);
        let io = parts.builder().options(options).queue(host).spawn();
        let io = io.unwrap_or_else(|error| panic!("{error}"));
        Ok(Self {
            io,
            device,
            file,
            pool,
            memory,
            path,
        })
    }

    fn ask(&self, request: Request) -> Result<u32, Errno> {
        ask(&self.device, request)
    }

    fn read(&self, at: u64, len: usize) -> Request {
        Request::read(self.file, at, len as u32).into_buffer(self.pool, 0)
    }

    /// Fills the buffer with what belongs at an offset of the file, and returns a request that writes it.
    fn write(&self, at: u64, len: usize) -> Request {
        self.memory
            .write_at(0, &pattern(at as usize, len))
            .expect("inside");
        Request::write(self.file, at, len as u32).from_buffer(self.pool, 0)
    }

    /// Asserts that a READ returns what belongs there, all of it.
    fn reads(&self, at: u64, len: usize) {
        self.memory.write_at(0, &vec![0x55; len]).expect("inside");
        assert_eq!(
            self.ask(self.read(at, len).exact()),
            Ok(len as u32),
            "read of {len} at {at}"
        );
        assert_holds(&self.memory, 0, &pattern(at as usize, len));
    }

    /// Stops the loop, and asserts that another program finds `len` bytes of the pattern.
    fn ends(self, len: usize) -> Passed {
        self.io
            .stop()
            .unwrap_or_else(|error| panic!("stop: {error}"));
        let bytes = std::fs::read(&self.path).expect("the file");
        std::fs::remove_file(&self.path).expect("the file");
        assert_eq!(bytes.len(), len, "length of the file");
        let wrong = bytes
            .iter()
            .zip(pattern(0, len))
            .position(|(byte, right)| *byte != right);
        assert_eq!(wrong, None, "first byte of the file that is wrong");
        Passed::QUIETLY
    }
}

/// Makes a file of `len` bytes of [`pattern`], and opens it with these flags.
fn open(place: &Place, len: usize, flags: OFlags) -> std::io::Result<(PathBuf, File)> {
    let path = place.dir.join("checked");
    std::fs::write(&path, pattern(0, len))
        .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .custom_flags(flags.bits() as i32);
    Ok((path.clone(), options.open(&path)?))
}

fn buffered(place: &Place, len: usize) -> Stand {
    Stand::new(place, len, OFlags::empty()).unwrap_or_else(|error| panic!("{error}"))
}

/// Across the ends of blocks, small and large.
fn write_read(place: &Place) -> Passed {
    let stand = buffered(place, 0);
    let mut end = 0;
    for len in [1, 511, 4096, 100_001, MIB, 4 * MIB + 3] {
        assert_eq!(
            stand.ask(stand.write(end as u64, len)),
            Ok(len as u32),
            "write of {len} at {end}"
        );
        end += len;
    }
    for (at, len) in [(0, 4096), (1, 1), (4095, 8193), (end - 4 * MIB, 4 * MIB)] {
        stand.reads(at as u64, len);
    }
    stand.ends(end)
}

fn direct(place: &Place) -> Passed {
    let stand = match Stand::new(place, MIB, OFlags::DIRECT) {
        Ok(stand) => stand,
        Err(error) => return Passed::Refused(format!("O_DIRECT: {error}")),
    };
    stand.reads(64 << 10, 64 << 10);
    for (at, len) in [(MIB, 64 << 10), (MIB + (64 << 10), MIB)] {
        assert_eq!(
            stand.ask(stand.write(at as u64, len)),
            Ok(len as u32),
            "write of {len} at {at}"
        );
    }
    stand.reads(MIB as u64, MIB);
    assert_eq!(stand.ask(Request::sync(stand.file)), Ok(0));
    stand.ends(2 * MIB + (64 << 10))
}

fn fence_sync(place: &Place) -> Passed {
    let stand = buffered(place, 0);
    for at in [0, MIB] {
        assert_eq!(stand.ask(stand.write(at as u64, MIB)), Ok(MIB as u32));
    }
    assert_eq!(stand.ask(Request::fence()), Ok(0));
    assert_eq!(stand.ask(Request::sync(stand.file)), Ok(0));
    stand.ends(2 * MIB)
}

fn durable(place: &Place) -> Passed {
    let stand = buffered(place, 0);
    for (at, len) in [(0, 4096), (4096, 65_536), (69_632, 3)] {
        assert_eq!(
            stand.ask(stand.write(at, len).durable()),
            Ok(len as u32),
            "write of {len} at {at}"
        );
    }
    stand.ends(69_635)
}

fn exact(place: &Place) -> Passed {
    let stand = buffered(place, 10_000);
    stand.reads(2000, 8000);
    assert_eq!(
        stand.ask(stand.read(2000, 8001).exact()),
        Err(Errno::ENODATA)
    );
    assert_eq!(stand.ask(stand.write(10_000, 5000).exact()), Ok(5000));
    stand.ends(15_000)
}

fn end_of_file(place: &Place) -> Passed {
    let stand = buffered(place, 10_000);
    for (at, count) in [(0, 10_000), (9999, 1), (10_000, 0), (1 << 30, 0)] {
        assert_eq!(
            stand.ask(stand.read(at, MIB)),
            Ok(count),
            "read of 1 MiB at {at}"
        );
    }
    stand.ends(10_000)
}

fn prefetch(place: &Place) -> Passed {
    let stand = buffered(place, MIB);
    assert_eq!(
        stand.ask(Request::prefetch(stand.file, 0, MIB as u32)),
        Ok(0)
    );
    stand.reads(0, MIB);
    stand.ends(MIB)
}

/// A queue full of reads, at offsets that divide nothing.
fn many_at_once(place: &Place) -> Passed {
    let stand = buffered(place, 2 * MIB);
    let place_of = |number: usize| (number * 31_337, number * 10_000);
    let tickets: Vec<_> = (0..64)
        .map(|number| {
            let (at, to) = place_of(number);
            submit(
                &stand.device,
                Request::read(stand.file, at as u64, 10_000)
                    .into_buffer(stand.pool, to as u64)
                    .exact(),
            )
        })
        .collect();
    for (number, ticket) in tickets.into_iter().enumerate() {
        let (at, to) = place_of(number);
        assert_eq!(
            outcome_of(&stand.device, ticket),
            Ok(10_000),
            "read at {at}"
        );
        assert_holds(&stand.memory, to, &pattern(at, 10_000));
    }
    stand.ends(2 * MIB)
}

fn revocation(place: &Place) -> Passed {
    let stand = buffered(place, 4096);
    stand.reads(0, 4096);
    stand
        .io
        .revoke_file(stand.file)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(stand.ask(stand.read(0, 4096)), Err(Errno::EBADF));
    stand.ends(4096)
}

fn page_cache_reads(place: &Place) -> Passed {
    let (path, file) = open(place, MIB, OFlags::empty()).expect("buffered");
    let options = FileOptions::new(Rights::READ).page_cache_reads(true);
    let stand = match Stand::with(place, path.clone(), file, options) {
        Err(TableError::PageCache(why)) => {
            std::fs::remove_file(path).expect("the file");
            return Passed::Refused(why.to_string());
        }
        stand => stand.unwrap_or_else(|error| panic!("{error}")),
    };
    // Reads go to the transport until another thread has found out which pages are in memory.
    eventually("a page-cache read", || {
        assert_eq!(stand.ask(stand.read(5000, 50_000)), Ok(50_000));
        assert!(
            holds(&stand.memory, 0, &pattern(5000, 50_000)),
            "wrong bytes"
        );
        stand.io.counters().page_cache_reads > 0
    });
    stand.ends(MIB)
}
