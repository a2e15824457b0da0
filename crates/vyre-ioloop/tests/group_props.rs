//! Threads that change a group's tables at the same time, against a model of what each handle means.

mod common;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use common::*;
use proptest::prelude::*;
use vyre_ioloop::{LoopGroup, Rights, TableError};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Queue, Request};
use vyre_uring::Buffer;

const LOOPS: usize = 2;
const THREADS: usize = 3;
/// Bytes of the buffer that a thread's reads go to.
const PART: u64 = 64;

/// One action of a thread. Numbers are indexes modulo the number of what exists.
#[derive(Clone, Copy, Debug)]
enum Action {
    InsertFile(u8),
    InsertBuffer(u8),
    RevokeFile(usize),
    RevokeBuffer(usize),
    /// Revokes a handle that all threads know.
    RevokeShared(usize),
    /// Reads through a loop, from a file or into a buffer that lives or has been revoked.
    Read {
        index: usize,
        file: usize,
        buffer: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => any::<u8>().prop_map(Action::InsertFile),
        2 => (0..PART as u8).prop_map(Action::InsertBuffer),
        2 => any::<usize>().prop_map(Action::RevokeFile),
        1 => any::<usize>().prop_map(Action::RevokeBuffer),
        1 => any::<usize>().prop_map(Action::RevokeShared),
        6 => (0..LOOPS, any::<usize>(), any::<usize>())
            .prop_map(|(index, file, buffer)| Action::Read { index, file, buffer }),
    ]
}

/// State that the threads share.
struct World {
    group: LoopGroup,
    devices: Vec<DeviceQueue>,
    /// Byte n has the value n.
    disk: std::fs::File,
    memory: Buffer,
    /// Every handle that was ever given out.
    given: Mutex<HashSet<(bool, u32)>>,
    /// Handles that any thread may revoke, each with the number of revocations.
    shared: Vec<(FileHandle, AtomicU32)>,
}

/// A thread's handles: what each means, and whether it was revoked.
struct Hand<'a> {
    world: &'a World,
    number: u64,
    files: Vec<(FileHandle, u8, bool)>,
    buffers: Vec<(BufferHandle, u8, bool)>,
}

impl World {
    fn new() -> Self {
        let mut tables = Tables::new(16, 64);
        let disk = file_of(&(0..=255).collect::<Vec<u8>>());
        let shared = (0..4).map(|_| {
            let part = disk.try_clone().unwrap();
            let handle = tables.files.insert_range(part, 0..1, Rights::READ);
            (handle.unwrap(), AtomicU32::new(0))
        });
        let shared: Vec<_> = shared.collect();
        let given = shared.iter().map(|(handle, _)| (true, handle.raw()));
        let given = given.chain([(true, tables.file.raw()), (false, tables.pool.raw())]);
        let given = Mutex::new(given.collect());
        let mut builder = LoopGroup::builder()
            .loops(LOOPS)
            .files(tables.files)
            .buffers(tables.buffers);
        let mut devices = Vec::new();
        for _ in 0..LOOPS {
            let (host, device) = Queue::anonymous(layout(8)).unwrap();
            builder = builder.queue(host);
            devices.push(device);
        }
        Self {
            group: builder.spawn().unwrap(),
            devices,
            disk,
            memory: memory(THREADS * PART as usize),
            given,
            shared,
        }
    }

    fn note(&self, is_file: bool, raw: u32) {
        let is_new = self.given.lock().unwrap().insert((is_file, raw));
        assert!(is_new, "handle {raw:#x} was given out twice");
    }
}

impl Hand<'_> {
    fn act(&mut self, action: Action) {
        let group = &self.world.group;
        match action {
            Action::InsertFile(byte) => {
                let part = self.world.disk.try_clone().unwrap();
                let range = u64::from(byte)..u64::from(byte) + 1;
                let handle = group.insert_file(part, range, Rights::READ).unwrap();
                self.world.note(true, handle.raw());
                self.files.push((handle, byte, true));
            }
            Action::InsertBuffer(at) => {
                let start = self.number * PART + u64::from(at);
                let memory = self.world.memory.clone();
                let handle = group.insert_buffer(memory, start..start + 1, Rights::WRITE);
                let handle = handle.unwrap();
                self.world.note(false, handle.raw());
                self.buffers.push((handle, at, true));
            }
            Action::RevokeFile(which) => {
                if let Some((handle, _, lives)) = pick(&mut self.files, which) {
                    let known = revoked(group.revoke_file(*handle));
                    assert_eq!(known, std::mem::take(lives), "{handle:?}");
                }
            }
            Action::RevokeBuffer(which) => {
                if let Some((handle, _, lives)) = pick(&mut self.buffers, which) {
                    let known = revoked(group.revoke_buffer(*handle));
                    assert_eq!(known, std::mem::take(lives), "{handle:?}");
                }
            }
            Action::RevokeShared(which) => {
                let (handle, times) = &self.world.shared[which % self.world.shared.len()];
                let known = revoked(group.revoke_file(*handle));
                times.fetch_add(u32::from(known), Ordering::Relaxed);
            }
            Action::Read {
                index,
                file,
                buffer,
            } => self.read(index, file, buffer),
        }
    }

    fn read(&mut self, index: usize, file: usize, buffer: usize) {
        let Some(&mut (file, byte, file_lives)) = pick(&mut self.files, file) else {
            return;
        };
        let Some(&mut (buffer, at, buffer_lives)) = pick(&mut self.buffers, buffer) else {
            return;
        };
        let place = (self.number * PART) as usize + usize::from(at);
        self.world.memory.write_at(place, &[!byte]).unwrap();
        let device = &self.world.devices[index];
        let read = device.submit(Request::read(file, 0, 1).into_buffer(buffer, 0));
        let (expected, left) = match file_lives && buffer_lives {
            true => (Ok(1), byte),
            false => (Err(Errno::EBADF), !byte),
        };
        assert_eq!(outcome_of(device, read.unwrap()), expected, "loop {index}");
        assert_eq!(
            contents(&self.world.memory, place, 1),
            [left],
            "loop {index}"
        );
    }
}

fn pick<T>(from: &mut [T], which: usize) -> Option<&mut T> {
    let len = from.len();
    from.get_mut(which.checked_rem(len)?)
}

/// Returns whether the handle was known.
fn revoked(result: Result<(), TableError>) -> bool {
    match result {
        Ok(()) => true,
        Err(TableError::Unknown { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(keeping(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/group_props.regressions")))]

    #[test]
    fn every_loop_agrees_with_the_model_whoever_changes_what_at_the_same_time(
        scripts in prop::collection::vec(prop::collection::vec(action(), 1..24), THREADS),
    ) {
        let world = World::new();
        std::thread::scope(|scope| {
            for (number, script) in (0..).zip(&scripts) {
                let mut hand = Hand {
                    world: &world,
                    number,
                    files: Vec::new(),
                    buffers: Vec::new(),
                };
                scope.spawn(move || script.iter().for_each(|&action| hand.act(action)));
            }
        });
        for (which, (handle, times)) in world.shared.iter().enumerate() {
            let asked = scripts.iter().flatten().any(|action| {
                matches!(action, Action::RevokeShared(n) if n % world.shared.len() == which)
            });
            prop_assert_eq!(times.load(Ordering::Relaxed), u32::from(asked), "{:?}", handle);
        }
        world.group.stop().unwrap();
    }
}
