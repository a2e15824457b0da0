//! Each kind of invalid request fails with its errno, and 63 valid ones of the same sweep are served.

mod common;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use common::*;
use vyre_ioloop::{Engine, Rights};
use vyre_ioq::abi::{op, word};
use vyre_ioq::{BufferHandle, Errno, FileHandle, Request};
use vyre_uring::{AnyTransport, DirectAlign, direct_alignment};

const SLOTS: u32 = 64;
const LEN: u64 = 64;

struct World {
    engine: Engine<AnyTransport>,
    slots: Slots,
    file: FileHandle,
    pool: BufferHandle,
    memory: vyre_uring::Buffer,
    read_only: FileHandle,
    write_only: FileHandle,
    /// READ and WRITE, but no SYNC.
    volatile: FileHandle,
    /// Bytes 100 to 200 of the file.
    part: FileHandle,
    /// One may be read from and not written to, the other written to and not read from.
    source: BufferHandle,
    sink: BufferHandle,
    /// Bytes 100 to 200 of another buffer.
    piece: BufferHandle,
    direct: Option<(FileHandle, DirectAlign)>,
}

fn open_direct() -> Option<File> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).ok()?;
    let path = directory.path().join("direct");
    std::fs::write(&path, pattern(1, 1 << 16)).ok()?;
    let mut options = File::options();
    options.read(true).write(true);
    options.custom_flags(libc::O_DIRECT).open(path).ok()
}

fn world() -> World {
    let mut tables = Tables::new(4096, 4096);
    let disk = tables.disk.try_clone().unwrap();
    let mut file = |range, rights| {
        let file = disk.try_clone().unwrap();
        tables.files.insert_range(file, range, rights).unwrap()
    };
    let read_only = file(0..u64::MAX >> 1, Rights::READ);
    let write_only = file(0..u64::MAX >> 1, Rights::WRITE | Rights::SYNC);
    let volatile = file(0..u64::MAX >> 1, Rights::READ | Rights::WRITE);
    let part = file(100..200, Rights::all());
    let direct = open_direct().map(|file| {
        let align = direct_alignment(&file).unwrap().unwrap();
        (tables.files.insert(file, Rights::all()).unwrap(), align)
    });
    let spare = memory(1 << 16);
    let mut buffer = |range, rights| {
        let buffers = &mut tables.buffers;
        buffers.insert_range(spare.clone(), range, rights).unwrap()
    };
    let source = buffer(0..1 << 16, Rights::READ);
    let sink = buffer(0..1 << 16, Rights::WRITE);
    let piece = buffer(100..200, Rights::READ | Rights::WRITE);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (slots, host, _device) = Slots::queue(SLOTS);
    World {
        engine: tables.engine(transport(64), vec![host]),
        slots,
        file,
        pool,
        memory,
        read_only,
        write_only,
        volatile,
        part,
        source,
        sink,
        piece,
        direct,
    }
}

impl World {
    /// Publishes the bad words in one slot and good reads in all others, and steps until all have
    /// outcomes.
    fn check(&mut self, what: &str, bad: &[u32; 16], errno: Errno) {
        let at = 17;
        self.memory.write_at(0, &[0; 4096]).unwrap();
        let good: Vec<u32> = (0..SLOTS).filter(|&slot| slot != at).collect();
        for &slot in &good {
            let offset = u64::from(slot) * LEN;
            let read = Request::read(self.file, offset, LEN as u32).into_buffer(self.pool, offset);
            self.slots.publish(slot, &read);
        }
        self.slots.publish_words(at, bad);
        let progress = self.engine.step();
        assert_eq!(progress.claimed, SLOTS, "{what}: one sweep");
        assert_eq!(self.slots.outcome(at), Some(Err(errno)), "{what}");
        eventually(what, || {
            let _ = self.engine.step();
            good.iter().all(|&slot| self.slots.outcome(slot).is_some())
        });
        let bytes = contents(&self.memory, 0, 4096);
        for &slot in &good {
            let range = slot as usize * 64..(slot as usize + 1) * 64;
            assert_eq!(self.slots.outcome(slot), Some(Ok(64)), "{what}: {slot}");
            assert_eq!(bytes[range.clone()], pattern(1, 4096)[range], "{what}");
        }
        assert_eq!(self.slots.load(at, word::TAG), bad[word::TAG], "{what}");
        assert_eq!(self.engine.outstanding(), 0, "{what}");
        for slot in 0..SLOTS {
            self.slots.store(slot, word::STATUS, 0);
        }
    }

    fn check_request(&mut self, what: &str, bad: Request, errno: Errno) {
        self.check(what, &words_of(&bad.with_tag(0xabcd)), errno);
    }

    fn words_of_good_read(&self) -> [u32; 16] {
        words_of(&Request::read(self.file, 0, 64).into_buffer(self.pool, 0))
    }
}

/// Rules: ABI-6.21, ABI-8.1.
#[test]
fn an_unknown_operation_is_einval() {
    let mut world = world();
    for op in [0, 7, 8, 22, 1 << 8 | 1, 1 << 31, u32::MAX] {
        let mut words = world.words_of_good_read();
        words[word::OP] = op;
        world.check("operation", &words, Errno::EINVAL);
    }
}

/// Rules: ABI-6.21, ABI-8.1.
#[test]
fn an_unknown_flag_is_einval() {
    let mut world = world();
    for bit in 2..32 {
        let mut words = world.words_of_good_read();
        words[word::FLAGS] = 1 << bit;
        world.check("flag", &words, Errno::EINVAL);
    }
}

/// Rule: ABI-6.21.
#[test]
fn a_flag_of_another_operation_is_einval() {
    let mut world = world();
    let (file, pool) = (world.file, world.pool);
    for bad in [
        Request::read(file, 0, 64).into_buffer(pool, 0).durable(),
        Request::fence().exact(),
        Request::fence().durable(),
        Request::sync(file).durable(),
        Request::sync(file).exact(),
        Request::prefetch(file, 0, 64).exact(),
        Request::prefetch(file, 0, 64).durable(),
        Request::map(file, 0, 64).exact(),
        Request::map(file, 0, 64).durable(),
    ] {
        world.check_request("flag", bad, Errno::EINVAL);
    }
}

/// Rules: ABI-2.7, ABI-6.21.
#[test]
fn a_reserved_word_that_is_set_is_einval() {
    let mut world = world();
    for op in [op::READ, op::FENCE] {
        for reserved in 12..16 {
            for value in [1, 1 << 31] {
                let mut words = world.words_of_good_read();
                words[word::OP] = op;
                words[reserved] = value;
                world.check("reserved word", &words, Errno::EINVAL);
            }
        }
    }
}

/// Rules: ABI-6.21, SEC-1.
#[test]
fn an_unknown_handle_is_ebadf() {
    let mut world = world();
    let (file, pool) = (world.file, world.pool);
    // Absent, beyond the table, and of another generation than the one in use.
    for other in [
        0,
        60,
        1 << 19,
        u32::MAX,
        1 << 20 | file.raw(),
        1 << 31 | file.raw(),
    ] {
        let (bad_file, bad_pool) = (FileHandle::from_raw(other), BufferHandle::from_raw(other));
        for bad in [
            Request::read(bad_file, 0, 64).into_buffer(pool, 0),
            Request::read(file, 0, 64).into_buffer(bad_pool, 0),
            Request::write(bad_file, 0, 64).from_buffer(pool, 0),
            Request::write(file, 0, 64).from_buffer(bad_pool, 0),
            Request::sync(bad_file),
            Request::prefetch(bad_file, 0, 64),
            Request::map(bad_file, 0, 64),
        ] {
            world.check_request("handle", bad, Errno::EBADF);
        }
    }
}

/// Rules: ABI-6.21, SEC-2.
#[test]
fn a_missing_right_is_eacces() {
    let mut world = world();
    let World {
        file,
        pool,
        read_only,
        write_only,
        volatile,
        source,
        sink,
        ..
    } = world;
    for (what, bad) in [
        (
            "READ of a file",
            Request::read(write_only, 0, 64).into_buffer(pool, 0),
        ),
        ("READ ahead", Request::prefetch(write_only, 0, 64)),
        ("MAP", Request::map(write_only, 0, 64)),
        (
            "WRITE of a file",
            Request::write(read_only, 0, 64).from_buffer(pool, 0),
        ),
        ("SYNC of a file", Request::sync(read_only)),
        (
            "SYNC, by a durable write",
            Request::write(volatile, 0, 64)
                .from_buffer(pool, 0)
                .durable(),
        ),
        (
            "WRITE of a buffer",
            Request::read(file, 0, 64).into_buffer(source, 0),
        ),
        (
            "READ of a buffer",
            Request::write(file, 0, 64).from_buffer(sink, 0),
        ),
    ] {
        world.check_request(what, bad, Errno::EACCES);
    }
}

/// Rules: ABI-6.21, SEC-2.
#[test]
fn a_range_outside_that_of_the_file_handle_is_erange() {
    let mut world = world();
    let (part, pool) = (world.part, world.pool);
    for (offset, count) in [
        (0, 101),
        (100, 1),
        (101, 0),
        (99, 2),
        (1 << 32, 1),
        (u64::MAX, 0),
        (0, u32::MAX),
    ] {
        for bad in [
            Request::read(part, offset, count).into_buffer(pool, 0),
            Request::write(part, offset, count).from_buffer(pool, 0),
            Request::prefetch(part, offset, count),
            Request::map(part, offset, count),
        ] {
            world.check_request("range of a file", bad, Errno::ERANGE);
        }
    }
}

/// Rules: ABI-6.21, SEC-2.
#[test]
fn a_range_outside_that_of_the_buffer_handle_is_erange() {
    let mut world = world();
    let (file, piece) = (world.file, world.piece);
    for (offset, count) in [
        (0, 101),
        (100, 1),
        (101, 0),
        (99, 2),
        (1 << 32, 1),
        (u64::MAX, 0),
        (0, u32::MAX),
    ] {
        for bad in [
            Request::read(file, 0, count).into_buffer(piece, offset),
            Request::write(file, 0, count).from_buffer(piece, offset),
        ] {
            world.check_request("range of a buffer", bad, Errno::ERANGE);
        }
    }
}

/// Rules: ABI-6.21, SEC-2.
#[test]
fn an_offset_and_a_count_that_overflow_are_erange() {
    let mut world = world();
    let World {
        file,
        pool,
        part,
        piece,
        ..
    } = world;
    for (offset, count) in [
        (u64::MAX, 1),
        (u64::MAX - 63, 64),
        (u64::MAX - 99, 100),
        (i64::MAX as u64, 1),
        (1 << 63, 64),
    ] {
        for bad in [
            Request::read(file, offset, count).into_buffer(pool, 0),
            Request::read(part, offset, count).into_buffer(pool, 0),
            Request::write(file, offset, count).from_buffer(pool, 0),
            Request::read(file, 0, count).into_buffer(pool, offset),
            Request::read(file, 0, count).into_buffer(piece, offset),
            Request::write(file, 0, count).from_buffer(piece, offset),
            Request::prefetch(file, offset, count),
            Request::map(file, offset, count),
        ] {
            world.check_request("overflow", bad, Errno::ERANGE);
        }
    }
}

/// Rule: ABI-6.21.
#[test]
fn misaligned_direct_io_is_einval() {
    let mut world = world();
    let Some((direct, align)) = world.direct else {
        eprintln!("skipped: no direct I/O in {}", env!("CARGO_TARGET_TMPDIR"));
        return;
    };
    let (sink, source, block) = (world.sink, world.source, align.offset);
    let mut bad = vec![
        Request::read(direct, 1, block).into_buffer(sink, 0),
        Request::read(direct, 0, block - 1).into_buffer(sink, 0),
        Request::read(direct, u64::from(block) / 2, block).into_buffer(sink, 0),
        Request::write(direct, 1, block).from_buffer(source, 0),
        Request::write(direct, 0, block + 1).from_buffer(source, 0),
    ];
    if align.memory > 1 {
        bad.push(Request::read(direct, 0, block).into_buffer(sink, 1));
        bad.push(Request::write(direct, 0, block).from_buffer(source, u64::from(align.memory) / 2));
    }
    for bad in bad {
        world.check_request("alignment", bad, Errno::EINVAL);
    }
    // An aligned request succeeds.
    let good =
        Request::read(direct, u64::from(block), block).into_buffer(sink, u64::from(align.memory));
    world.slots.publish(0, &good);
    eventually("the read", || {
        let _ = world.engine.step();
        world.slots.outcome(0) == Some(Ok(block))
    });
}

/// The device gets an errno. The errors of the host say what to do.
#[test]
fn the_error_for_an_unknown_handle_names_it() {
    let tables = Tables::new(16, 64);
    let read = Request::read(tables.file, 0, 1).into_buffer(BufferHandle::from_raw(55), 0);
    let mut rig = tables.on_transport(8, 4);
    assert_eq!(rig.run(read), Err(Errno::EBADF));
    let unknown = rig
        .engine
        .revoke_buffer(BufferHandle::from_raw(55))
        .unwrap_err();
    assert!(unknown.to_string().contains("0x37"), "{unknown}");
}

/// A table cannot grant more than the file allows.
///
/// Rule: SEC-2.
#[test]
fn rights_beyond_the_open_mode_of_a_file_are_refused_at_insertion() {
    let mut tables = Tables::new(16, 4096);
    let (reader, writer) = std::io::pipe().unwrap();
    assert!(tables.files.insert(reader, Rights::WRITE).is_err());
    assert!(tables.files.insert(writer, Rights::READ).is_err());
}
