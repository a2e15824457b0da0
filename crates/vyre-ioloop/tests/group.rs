//! Several loops on real rings that share their files and buffers.

mod common;

use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use vyre_ioloop::{
    GroupSpawnError, LoopGroup, LoopGroupBuilder, QueueCounters, QueueError, QueueId, Rights,
    SpawnError, TableError,
};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, HostQueue, LoopState, Queue, Region, Request,
};

const LOOPS: usize = 3;

fn queue() -> (HostQueue, DeviceQueue) {
    Queue::anonymous(layout(8)).unwrap()
}

fn run(device: &DeviceQueue, request: Request) -> Result<u32, Errno> {
    outcome_of(device, device.submit(request).unwrap())
}

fn builder(tables: Tables) -> LoopGroupBuilder {
    LoopGroup::builder()
        .files(tables.files)
        .buffers(tables.buffers)
        .loops(LOOPS)
}

/// A group with one queue on each loop.
struct Rig {
    group: LoopGroup,
    devices: Vec<DeviceQueue>,
}

impl Rig {
    fn new(tables: Tables) -> Self {
        Self::of(builder(tables))
    }

    fn of(mut builder: LoopGroupBuilder) -> Self {
        let mut devices = Vec::new();
        for _ in 0..LOOPS {
            let (host, device) = queue();
            builder = builder.queue(host);
            devices.push(device);
        }
        let group = builder.spawn().unwrap();
        Self { group, devices }
    }

    /// Returns the outcome of a request, which must be the same in every loop.
    fn everywhere(&self, request: Request) -> Result<u32, Errno> {
        let outcomes: Vec<_> = self.devices.iter().map(|d| run(d, request)).collect();
        assert!(outcomes.windows(2).all(|w| w[0] == w[1]), "{outcomes:?}");
        outcomes[0]
    }

    fn insert_buffer(&self, memory: &vyre_uring::Buffer, range: Range<u64>) -> BufferHandle {
        let rights = Rights::READ | Rights::WRITE;
        self.group
            .insert_buffer(memory.clone(), range, rights)
            .unwrap()
    }
}

#[test]
fn a_handle_means_the_same_in_every_loop() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, shared) = (tables.file, tables.pool, tables.memory.clone());
    let rig = Rig::new(tables);
    let live = pattern(8, 1000);
    let later = rig
        .group
        .insert_file(file_of(&live), 100..900, Rights::READ);
    let later = later.unwrap();
    let memory = memory(4096);
    let part = rig.insert_buffer(&memory, 1024..3072);
    for device in &rig.devices {
        for (from, bytes) in [(file, &pattern(1, 4096)[..800]), (later, &live[100..900])] {
            for (into, held, at) in [(pool, &shared, 0), (part, &memory, 1024)] {
                held.write_at(0, &[0; 4096]).unwrap();
                let read = Request::read(from, 0, 800).into_buffer(into, 0);
                assert_eq!(run(device, read), Ok(800));
                assert_eq!(contents(held, at, 800), bytes);
            }
        }
    }
    let past = Request::read(later, 801, 1).into_buffer(part, 0);
    assert_eq!(rig.everywhere(past), Err(Errno::ERANGE), "one range");
    let write = Request::write(later, 0, 8).from_buffer(part, 0);
    assert_eq!(
        rig.everywhere(write),
        Err(Errno::EACCES),
        "one set of rights"
    );
    rig.group.stop().unwrap();
}

/// Reads through one open file would contend for it.
#[test]
fn each_loop_has_an_open_file_of_its_own() {
    use std::io::{Seek, SeekFrom};
    let named = tempfile::NamedTempFile::new().unwrap();
    let path = named.path().canonicalize().unwrap();
    // Descriptors of one open file share a position.
    let positions = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let numbers = links.filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().into_string().ok()?;
            (std::fs::read_link(entry.path()).ok()? == path).then_some(number)
        });
        let mut found: Vec<u64> = numbers
            .filter_map(|number| {
                let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
                let position = info.lines().find_map(|line| line.strip_prefix("pos:"));
                position?.trim().parse().ok()
            })
            .collect();
        found.sort_unstable();
        found
    };
    let given = |position| {
        let mut file = named.reopen().unwrap();
        file.seek(SeekFrom::Start(position)).unwrap();
        file
    };
    let mut tables = Tables::new(16, 64);
    let first = tables.files.insert(given(5), Rights::READ).unwrap();
    let rig = Rig::new(tables);
    // The descriptor of the test, those of the other two loops, and that of the first loop.
    assert_eq!(positions(), [0, 0, 0, 5]);
    let later = rig.group.insert_file(given(7), 0..1, Rights::READ);
    assert_eq!(positions(), [0, 0, 0, 0, 0, 5, 7]);
    rig.group.revoke_file(first).unwrap();
    rig.group.revoke_file(later.unwrap()).unwrap();
    eventually("the last of them is closed", || positions() == [0]);
    rig.group.stop().unwrap();
}

/// Rule: SEC-7.
#[test]
fn a_revocation_waits_for_the_one_loop_that_has_something_in_flight() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let rig = Rig::new(tables);
    let memory = memory(64);
    let buffer = rig.insert_buffer(&memory, 0..64);
    let slow = Request::read(pipe, 0, 4).into_buffer(buffer, 0);
    let slow = rig.devices[1].submit(slow).unwrap();
    eventually("the claim", || {
        rig.group.queue_counters(1).unwrap().claimed == 1
    });
    let revoked = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Closed if an assertion fails, so that the revocation ends too.
        let mut writer = writer;
        scope.spawn(|| {
            rig.group.revoke_buffer(buffer).unwrap();
            revoked.store(true, Ordering::Release);
        });
        let probe = Request::read(file, 0, 1).into_buffer(buffer, 60);
        for device in &rig.devices {
            eventually("the revocation", || run(device, probe) == Err(Errno::EBADF));
        }
        // Meanwhile, other entries are used, inserted and revoked, and none gets the index.
        assert_eq!(
            rig.everywhere(Request::read(file, 0, 8).into_buffer(pool, 8)),
            Ok(8)
        );
        for _ in 0..3 {
            let other = rig.insert_buffer(&memory, 0..32);
            assert_ne!(other.raw() & 0xf_ffff, buffer.raw() & 0xf_ffff);
            assert_eq!(
                rig.everywhere(Request::read(file, 0, 8).into_buffer(other, 0)),
                Ok(8)
            );
            rig.group.revoke_buffer(other).unwrap();
            assert_eq!(rig.everywhere(probe), Err(Errno::EBADF));
        }
        let twice = rig.group.revoke_buffer(buffer).unwrap_err();
        let unknown = |handle| handle == buffer.raw();
        assert!(matches!(twice, TableError::Unknown { handle } if unknown(handle)));
        std::thread::sleep(Duration::from_millis(10));
        assert!(!revoked.load(Ordering::Acquire), "the read is in flight");
        writer.write_all(b"data").unwrap();
    });
    assert!(revoked.load(Ordering::Acquire));
    assert_eq!(
        outcome_of(&rig.devices[1], slow),
        Ok(4),
        "it was not cut short"
    );
    assert_eq!(contents(&memory, 0, 4), b"data");
    let next = rig.insert_buffer(&memory, 0..64);
    assert_eq!(next.raw() & 0xf_ffff, buffer.raw() & 0xf_ffff, "it is free");
    rig.group.stop().unwrap();
}

/// Rule: SEC-9.
#[test]
fn a_revoked_handle_stays_unknown_in_every_loop() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let rig = Rig::new(tables);
    let memory = memory(64);
    let (mut files, mut buffers): (Vec<FileHandle>, Vec<BufferHandle>) = Default::default();
    for round in 0..5 {
        let inserted = rig.group.insert_file(file_of(b"abc"), 0..3, Rights::READ);
        let (new, new_buffer) = (inserted.unwrap(), rig.insert_buffer(&memory, 0..64));
        let read = Request::read(new, 0, 3).into_buffer(new_buffer, 0);
        assert_eq!(rig.everywhere(read), Ok(3), "round {round}");
        for &old in &files {
            assert_eq!(old.raw() & 0xf_ffff, new.raw() & 0xf_ffff, "the same place");
            let read = Request::read(old, 0, 3).into_buffer(pool, 0);
            assert_eq!(rig.everywhere(read), Err(Errno::EBADF));
        }
        for &old in &buffers {
            let read = Request::read(file, 0, 3).into_buffer(old, 0);
            assert_eq!(rig.everywhere(read), Err(Errno::EBADF));
        }
        rig.group.revoke_file(new).unwrap();
        rig.group.revoke_buffer(new_buffer).unwrap();
        files.push(new);
        buffers.push(new_buffer);
    }
    rig.group.stop().unwrap();
}

#[test]
fn entries_beyond_the_capacity_of_the_rings_are_refused_until_one_is_free() {
    let tables = Tables::new(16, 64);
    let pool = tables.pool;
    let rig = Rig::of(builder(tables).options(loop_options().live_entries(1)));
    let insert = || rig.group.insert_file(file_of(b"abc"), 0..3, Rights::READ);
    let first = insert().unwrap();
    let full = insert().unwrap_err();
    assert!(
        matches!(full, TableError::Loop { index: 0, ref reason } if matches!(**reason, TableError::NoRoom { what: "file" })),
        "{full}"
    );
    rig.group.revoke_file(first).unwrap();
    let read = Request::read(insert().unwrap(), 0, 3).into_buffer(pool, 0);
    assert_eq!(rig.everywhere(read), Ok(3));
    rig.group.stop().unwrap();
}

#[test]
fn queues_are_assigned_round_robin_or_to_the_named_loop() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    let mut builder = builder(tables);
    let mut devices = Vec::new();
    for chosen in [None, None, Some(2), None, Some(0), None, None] {
        let (host, device) = queue();
        builder = match chosen {
            Some(index) => builder.queue_on(index, host),
            None => builder.queue(host),
        };
        devices.push(device);
    }
    let group = builder.spawn().unwrap();
    let expected = [0, 1, 2, 2, 0, 0, 1];
    let mut operations = [0; LOOPS];
    for (queue, (device, index)) in devices.iter().zip(expected).enumerate() {
        assert_eq!(group.loop_of(queue), Some(index));
        // A different count for each queue.
        for _ in 0..=queue as u64 {
            assert_eq!(run(device, Request::prefetch(file, 0, 16)), Ok(0));
            operations[index] += 1;
        }
    }
    for (queue, count) in (0..devices.len()).zip(1..) {
        eventually("the counts of a queue", || {
            let counters = group.queue_counters(queue).unwrap();
            (counters.claimed, counters.succeeded) == (count, count)
        });
    }
    for (index, count) in operations.into_iter().enumerate() {
        eventually("the count of a loop", || {
            group.loop_counters(index).unwrap().operations == count
        });
    }
    assert_eq!(group.counters().operations, operations.iter().sum::<u64>());
    let all = (0..devices.len()).filter_map(|queue| group.queue_counters(queue));
    assert_eq!(all.sum::<QueueCounters>().claimed, 28);
    assert_eq!((group.loop_of(7), group.queue_counters(7)), (None, None));
    assert_eq!(group.loop_counters(LOOPS), None);
    group.stop().unwrap();
}

#[test]
fn each_loop_is_a_thread_with_a_ring() {
    let rig = Rig::new(Tables::new(16, 64));
    assert_eq!(rig.group.loops(), LOOPS);
    let mut threads: Vec<_> = (0..LOOPS).filter_map(|n| rig.group.thread_id(n)).collect();
    for (index, thread) in threads.iter().enumerate() {
        let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap();
        assert_eq!(name.trim(), format!("vyre-io-{index}"));
        assert_eq!(rig.group.is_running(index), Some(true));
        let report = rig.group.report(index).unwrap().to_string();
        assert!(report.contains("entries"), "{report}");
    }
    threads.sort_unstable();
    threads.dedup();
    assert_eq!(threads.len(), LOOPS);
    assert_eq!(rig.group.thread_id(LOOPS), None);
    assert_eq!(rig.group.is_running(LOOPS), None);
    drop(rig.group);
    for thread in threads {
        eventually("the end of the thread", || !thread_lives(thread));
    }
}

#[test]
fn the_error_for_an_invalid_group_names_the_cause() {
    let tables = || Tables::new(16, 64);
    let none = builder(tables()).loops(0).queue(queue().0).spawn();
    assert!(matches!(none, Err(GroupSpawnError::NoLoop)));
    let (host, device) = queue();
    let beyond = builder(tables()).queue(queue().0).queue_on(LOOPS, host);
    let beyond = beyond.spawn().unwrap_err();
    let text = beyond.to_string();
    let expected = matches!(
        beyond,
        GroupSpawnError::NoSuchLoop {
            queue: 1,
            index: LOOPS,
            loops: LOOPS
        }
    );
    assert!(expected && text.contains("number 2"), "{text}");
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    let memory = Region::allocate(layout(4).bytes()).unwrap();
    let host = || HostQueue::create(memory.clone(), &layout(4)).unwrap();
    let twice = builder(tables()).queue(host()).queue(host()).spawn();
    assert!(matches!(
        twice,
        Err(GroupSpawnError::Loop {
            index: 1,
            reason: SpawnError::Queue { queue, reason: QueueError::Overlaps { .. } }
        }) if queue == QueueId::from(1)
    ));
    let nowhere = builder(tables()).pin_to([usize::MAX]).queue(queue().0);
    assert!(matches!(
        nowhere.spawn(),
        Err(GroupSpawnError::Loop {
            index: 0,
            reason: SpawnError::Pin {
                core: usize::MAX,
                ..
            }
        })
    ));
}

/// A group with a read of an empty pipe in flight in each loop, and the pipe's other end.
fn waiting(drain: Duration) -> (Rig, Vec<vyre_ioq::Ticket>, std::io::PipeWriter) {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, writer) = tables.add_pipe();
    let pool = tables.pool;
    let rig = Rig::of(builder(tables).options(loop_options().drain_timeout(drain)));
    let read = Request::read(pipe, 0, 8).into_buffer(pool, 0);
    let submit = |device: &DeviceQueue| device.submit(read).unwrap();
    let reads = rig.devices.iter().map(submit).collect();
    for queue in 0..LOOPS {
        eventually("the claim", || {
            rig.group.queue_counters(queue).unwrap().claimed == 1
        });
    }
    (rig, reads, writer)
}

fn states(devices: &[DeviceQueue]) -> Vec<LoopState> {
    devices.iter().filter_map(DeviceQueue::host_state).collect()
}

#[test]
fn all_loops_drain_at_the_same_time() {
    for by_drop in [false, true] {
        let (rig, reads, mut writer) = waiting(LIMIT);
        let Rig { group, devices } = rig;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // No loop can end before all have begun to drain.
                eventually("draining", || {
                    states(&devices) == [LoopState::Draining; LOOPS]
                });
                writer.write_all(&[7; 8 * LOOPS]).unwrap();
            });
            match by_drop {
                true => drop(group),
                false => group.stop().unwrap(),
            }
        });
        assert_eq!(states(&devices), [LoopState::Stopped; LOOPS]);
        for (device, read) in devices.iter().zip(reads) {
            assert_eq!(outcome_of(device, read), Ok(8));
        }
    }
}

#[test]
fn an_abort_cancels_in_every_loop() {
    let (rig, reads, _writer) = waiting(LIMIT);
    rig.group.abort().unwrap();
    assert_eq!(states(&rig.devices), [LoopState::Stopped; LOOPS]);
    for (device, read) in rig.devices.iter().zip(reads) {
        assert_eq!(outcome_of(device, read), Err(Errno::ECANCELED));
    }
}
