//! The bodies of the fuzz targets. Each takes any bytes, and panics if a rule is broken.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::atomic::Ordering;

use vyre_ioq::abi::{HEADER_BYTES, SlotImage};
use vyre_ioq::test_utils::{Attack, GuardedMemory};
use vyre_ioq::{DeviceQueue, Errno, FileHandle, HostQueue, Op, Request};
use vyre_uring::MAX_COPY_BYTES;

use crate::ends::Ends;
use crate::engine::{Faults, Which, World};
use crate::page_cache::{PageCache, Wanted};

/// A target: its name, which is also that of the directory of its seeds, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: &[Target] = &[
    ("attach", attach),
    ("decode", decode),
    ("ends", ends),
    ("handshake", handshake),
    ("hostile", hostile),
    ("page_cache", page_cache),
];

/// Most bytes of memory that are offered as a queue.
const ATTACH_BYTES: usize = 4096 * 2;
/// Most actions of one input. A longer input finds nothing that two short ones do not.
const ACTIONS: usize = 256;

/// Reads numbers from bytes; zeros after their end.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut bytes = [0; N];
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    pub(crate) fn half(&mut self) -> u32 {
        u16::from_le_bytes(self.take()).into()
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// A number of 18 bits, in rare cases shifted out of the range of any file.
    pub(crate) fn wide(&mut self) -> u64 {
        let word = self.word();
        let low = u64::from(word & 0x3_ffff);
        if word >> 28 == 0xf {
            low << (word >> 22 & 0x3f)
        } else {
            low
        }
    }

    fn range(&mut self) -> Range<u64> {
        let start = self.wide();
        start..start.saturating_add(self.wide())
    }

    /// A piece of the bytes: its length comes first, in a byte.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(len);
        self.0 = rest;
        piece
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes any bytes as the memory of a queue. Attaching returns an error, or a queue whose slots are all
/// inside the bytes.
///
/// # Panics
/// If not so.
pub fn attach(bytes: &[u8]) {
    thread_local! {
        static MEMORY: OnceCell<GuardedMemory> = const { OnceCell::new() };
    }
    MEMORY.with(|memory| {
        let make = || GuardedMemory::new(ATTACH_BYTES).expect("memory");
        attach_in(memory.get_or_init(make), bytes);
    });
}

fn attach_in(memory: &GuardedMemory, bytes: &[u8]) {
    let len = bytes.len().min(ATTACH_BYTES) & !3;
    // At the start of a page, as a queue with a header must be. A bare queue is also placed just before
    // the guard page.
    let end = ATTACH_BYTES - len;
    let places = if len < HEADER_BYTES {
        &[0, end][..]
    } else {
        &[0]
    };
    for &skip in places {
        for (word, chunk) in bytes[..len].chunks_exact(4).enumerate() {
            let value = Bytes(chunk).word();
            memory.store(skip / 4 + word, value, Ordering::Relaxed);
        }
        let region = || memory.try_region(skip, len).expect("whole words");
        if let Ok(device) = DeviceQueue::attach(region()) {
            assert!(device.geometry().bytes() <= len, "{:?}", device.geometry());
            while let Ok(ticket) = device.submit(Request::fence()) {
                assert!(device.take(ticket).is_err(), "nobody answered");
            }
        }
        if let Ok(mut host) = HostQueue::attach_bare(region()) {
            assert_eq!(host.geometry().bytes(), len);
            let claimed = host.claim_published(0..u32::MAX, drop);
            assert_eq!(host.complete_owed(Errno::EIO), claimed);
        }
        if let Ok(device) = DeviceQueue::attach_bare(region()) {
            assert_eq!(device.geometry().bytes(), len);
            while device.submit(Request::fence()).is_ok() {}
        }
    }
}

/// Takes any words as a slot. A request that is accepted means exactly what the words say.
///
/// # Panics
/// If not so.
pub fn decode(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let words: [u32; 16] = std::array::from_fn(|_| bytes.word());
    let image = SlotImage {
        op: words[0],
        source: words[1],
        destination: words[2],
        file_offset_low: words[3],
        file_offset_high: words[4],
        count: words[5],
        status: words[6],
        tag: words[7],
        buffer_offset_low: words[8],
        buffer_offset_high: words[9],
        flags: words[10],
        deadline: words[11],
        reserved: [words[12], words[13], words[14], words[15]],
    };
    let known = match words[0] {
        1 => 2,
        2 => 3,
        3..=5 => 0,
        _ => u32::MAX,
    };
    let fit = known != u32::MAX && words[10] & !known == 0 && image.reserved == [0; 4];
    let verdict = Request::decode(&image);
    assert_eq!(verdict.is_ok(), fit, "{verdict:?} of {image:x?}");
    let Ok(request) = verdict else { return };
    let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    assert_eq!(Op::from_word(words[0]), Some(request.op()));
    assert_eq!(request.flags().bits(), words[10]);
    assert_eq!(request.file_offset(), wide(words[3], words[4]));
    assert_eq!(request.buffer_offset(), wide(words[8], words[9]));
    let (file, buffer) = (request.file().raw(), request.buffer().raw());
    let (source, destination) = match request.op() {
        Op::Read => (file, buffer),
        _ => (buffer, file),
    };
    let rest = [
        source,
        destination,
        request.count(),
        request.tag(),
        request.deadline(),
    ];
    assert_eq!(rest, [words[1], words[2], words[5], words[7], words[11]]);
}

/// Steps both ends of a queue, and stores to any word. Nothing is claimed twice or left out, and every
/// claim is completed exactly once. The first byte chooses the geometry. Actions follow, each a byte
/// and its operands.
///
/// # Panics
/// If not so.
pub fn ends(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut ends = Ends::new(bytes.byte(), bytes.byte().into());
    for _ in 0..ACTIONS {
        if bytes.is_empty() {
            break;
        }
        let action = bytes.byte();
        match action % 10 {
            0 => {
                let tag = bytes.half();
                ends.submit(Request::sync(FileHandle::from_raw(tag)).with_tag(tag));
            }
            1 => ends.submit(Request::fence()),
            2 => ends.take(bytes.byte().into()),
            3 => ends.sweep(0..u32::MAX),
            4 => {
                let (start, end) = (bytes.byte(), bytes.byte());
                ends.sweep(start.into()..end.into());
            }
            5 => ends.complete(bytes.byte().into(), Ok(1)),
            6 => ends.complete(bytes.byte().into(), Err(Errno::EIO)),
            7 if action >= 128 => ends.announce(),
            7 => ends.complete_owed(Errno::ECANCELED),
            8 => ends.store(bytes.half(), bytes.word()),
            _ => {
                let attack = attack(bytes.byte());
                ends.adversary().attack(attack);
            }
        }
    }
    ends.finish();
}

/// Runs an engine with hostile devices. Nothing is served twice, every claim gets one outcome, and
/// honest lanes get the right ones. Four bytes configure the transport. Actions follow, each a byte and
/// its operands.
///
/// # Panics
/// If not so.
pub fn hostile(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut world = World::new(Faults {
        seed: bytes.byte().into(),
        capacity: 1 + u32::from(bytes.byte() % 16),
        latency: u32::from(bytes.byte() % 6),
        disturbed: f64::from(bytes.byte() % 4) / 8.0,
    });
    for _ in 0..ACTIONS {
        if bytes.is_empty() {
            break;
        }
        match bytes.byte() % 10 {
            0 | 1 => world.step(),
            2 => world.take(),
            3 => world.read(bytes.half(), bytes.half()),
            4 => world.write(bytes.half()),
            5 => world.order(bytes.byte() % 2 == 1),
            6 => {
                let attack = attack(bytes.byte());
                world.adversary(Which::Alone).attack(attack);
            }
            7 => {
                let attack = attack(bytes.byte());
                world.adversary(Which::Beside).attack(attack);
            }
            8 => {
                for _ in 0..bytes.byte() {
                    world.adversary(Which::Alone).step();
                    world.adversary(Which::Beside).step();
                }
            }
            _ => world.store(bytes.half(), bytes.word()),
        }
    }
    world.finish();
}

/// Reads a file out of the page cache while its size and bytes change. Each result is one that pread(2) could
/// have given. Four bytes configure the transport, and twelve the file. Actions follow, each a byte and its
/// operands.
///
/// # Panics
/// If not so.
pub fn page_cache(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let config = bytes.byte();
    let faults = Faults {
        seed: bytes.byte().into(),
        capacity: 1 + u32::from(bytes.byte() % 16),
        latency: u32::from(config >> 2 & 3),
        disturbed: f64::from(bytes.byte() % 4) / 8.0,
    };
    let mut file = PageCache::new(faults, bytes.wide(), bytes.range(), config & 1 == 1);
    for _ in 0..ACTIONS {
        if bytes.is_empty() {
            break;
        }
        let action = bytes.byte();
        match action % 16 {
            0..=3 if action >= 128 => {
                let reads: Vec<_> = (0..=action >> 4 & 7).map(|_| wanted(&mut bytes)).collect();
                // More than a bundle takes, too.
                let turns = 1 + bytes.byte() % 24;
                file.bundle((0..turns).flat_map(|_| reads.iter().copied()));
            }
            0..=3 => {
                let read = wanted(&mut bytes);
                file.push(read.offset, read.len, read.at);
            }
            // About as long as the longest copy.
            4 => {
                let (offset, more) = (bytes.wide(), bytes.byte());
                file.push(offset, MAX_COPY_BYTES - 128 + u32::from(more), 0);
            }
            5 | 6 => file.submit(),
            7 => file.reap(),
            8 => file.scan(bytes.range()),
            9 => file.scan_all(),
            10 => file.forget(bytes.range()),
            11 => file.resize(bytes.wide()),
            12 => file.write(bytes.wide(), bytes.half().into(), bytes.byte()),
            13 => file.punch(bytes.wide(), bytes.half().into()),
            14 => match bytes.byte() {
                nth @ ..16 => file.cancel(nth.into()),
                16 => file.quiesce(),
                _ => file.wait(),
            },
            _ => file.replace(bytes.byte(), bytes.wide(), bytes.range()),
        }
    }
    file.finish();
}

fn wanted(bytes: &mut Bytes<'_>) -> Wanted {
    let (offset, len, at) = (bytes.wide(), bytes.half(), bytes.wide());
    Wanted { offset, len, at }
}

/// Feeds both sides of the handshake with packets: see [`drive`](crate::handshake::drive).
///
/// # Panics
/// As it does.
pub fn handshake(bytes: &[u8]) {
    crate::handshake::drive(bytes);
}

fn attack(number: u8) -> Attack {
    Attack::ALL[usize::from(number) % Attack::ALL.len()]
}
