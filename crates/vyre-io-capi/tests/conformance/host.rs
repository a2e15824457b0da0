//! The host of a case.
#![expect(
    unsafe_code,
    reason = "a queue's memory is mapped as another process maps it"
)]

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use vyre_io::{
    Buffer, BufferHandle, BufferTable, DeviceQueue, Features, FileHandle, FileOptions, FileTable,
    HostQueue, IoLoop, IoLoopBuilder, LoopGroup, LoopGroupBuilder, LoopOptions, Outcome, Queue,
    QueueCounters, QueueId, QueueLayout, Region, Request, Rights, Ticket, TransportChoice,
    WaitPolicy, shared_queue,
};

use crate::bytes::pattern;
use crate::names::{Named, result};

/// A kind of queue.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Own,
    Bell,
    Shared,
    Bare,
    Counts,
}

impl Kind {
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "own" => Self::Own,
            "bell" => Self::Bell,
            "shared" => Self::Shared,
            "bare" => Self::Bare,
            "counts" => Self::Counts,
            word => panic!("{word} is no kind of queue"),
        }
    }

    fn layout(self, slots: u32) -> QueueLayout {
        match self {
            Self::Own | Self::Shared => QueueLayout::with_slots(slots),
            Self::Bell => QueueLayout::with_slots(slots).with_features(Features::DOORBELL),
            Self::Bare => QueueLayout::bare(slots),
            Self::Counts => QueueLayout::bare(slots).with_counts(),
        }
    }
}

enum Running {
    Nothing,
    Loop(IoLoop),
    Group(LoopGroup),
}

/// All that a case has.
pub(crate) struct Host {
    files: HashMap<String, OwnedFd>,
    feeds: HashMap<String, File>,
    buffers: HashMap<String, Buffer>,
    handles: HashMap<String, u32>,
    table: FileTable,
    pool: BufferTable,
    /// The host ends that no loop has yet, in order.
    hosts: Vec<HostQueue>,
    devices: Vec<DeviceQueue>,
    pub(crate) current: usize,
    tickets: HashMap<u32, (usize, Ticket)>,
    running: Running,
    pub(crate) options: LoopOptions,
    /// The number of loops, or zero for a loop without a group.
    pub(crate) loops: usize,
}

fn rights(word: &str) -> Rights {
    let mut rights = Rights::empty();
    rights.set(Rights::READ, word.contains('r'));
    rights.set(Rights::WRITE, word.contains('w'));
    rights.set(Rights::SYNC, word.contains('s'));
    rights
}

impl Host {
    pub(crate) fn new(transport: TransportChoice) -> Self {
        Self {
            files: HashMap::new(),
            feeds: HashMap::new(),
            buffers: HashMap::new(),
            handles: HashMap::new(),
            table: FileTable::new(),
            pool: BufferTable::new(),
            hosts: Vec::new(),
            devices: Vec::new(),
            current: 0,
            tickets: HashMap::new(),
            running: Running::Nothing,
            options: LoopOptions::new().transport(transport),
            loops: 0,
        }
    }

    // ---- Files and buffers ----

    pub(crate) fn file(&mut self, name: &str, count: u64) {
        let file = tempfile::tempfile().expect("a temporary file");
        file.write_all_at(&pattern(1, count), 0).expect("room");
        self.files.insert(name.into(), file.into());
    }

    pub(crate) fn memfd(&mut self, name: &str, count: u64) {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("case", flags).expect("a memfd"));
        file.write_all_at(&pattern(1, count), 0).expect("room");
        self.files.insert(name.into(), file.into());
    }

    pub(crate) fn open(&mut self, name: &str, file: &str, mode: &str) {
        let flags = match mode {
            "r" => OFlags::RDONLY,
            "w" => OFlags::WRONLY,
            "append" => OFlags::RDWR | OFlags::APPEND,
            "path" => OFlags::PATH,
            mode => panic!("{mode} is no mode"),
        };
        let path = format!("/proc/self/fd/{}", self.files[file].as_raw_fd());
        let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
        self.files
            .insert(name.into(), opened.expect("the file again"));
    }

    pub(crate) fn directory(&mut self, name: &str) {
        let directory = File::open(std::env::temp_dir()).expect("a directory");
        self.files.insert(name.into(), directory.into());
    }

    pub(crate) fn pipe(&mut self, name: &str) {
        let (reading, writing) = rustix::pipe::pipe().expect("a pipe");
        self.files.insert(name.into(), reading);
        self.feeds.insert(name.into(), writing.into());
    }

    pub(crate) fn feed(&mut self, name: &str, count: u64) {
        let feed = self.feeds.get_mut(name).expect("a pipe");
        feed.write_all(&pattern(2, count)).expect("room");
    }

    pub(crate) fn buffer(&mut self, name: &str, count: u64) {
        let buffer = Buffer::anonymous(count as usize).expect("memory");
        self.buffers.insert(name.into(), buffer);
    }

    pub(crate) fn fill(&self, name: &str, start: u64, count: u64, seed: u64) {
        let written = self.buffers[name].write_at(start as usize, &pattern(seed, count));
        written.expect("inside the buffer");
    }

    pub(crate) fn bytes(&self, name: &str, start: u64, count: u64) -> Vec<u8> {
        let mut bytes = vec![0; count as usize];
        self.buffers[name]
            .read_at(start as usize, &mut bytes)
            .expect("inside the buffer");
        bytes
    }

    pub(crate) fn file_bytes(&self, name: &str) -> Vec<u8> {
        let file = File::from(self.files[name].try_clone().expect("a descriptor"));
        let mut bytes = vec![0; file.metadata().expect("its size").len() as usize];
        file.read_exact_at(&mut bytes, 0).expect("its bytes");
        bytes
    }

    // ---- Handles ----

    /// Keeps the handle of an insertion, and returns the result as text.
    fn inserted<E: Named>(&mut self, name: &str, inserted: Result<u32, E>) -> String {
        if let Ok(handle) = inserted {
            self.handles.insert(name.into(), handle);
        }
        result(inserted, |handle| format!(" {handle:#x}"))
    }

    pub(crate) fn insert(
        &mut self,
        name: &str,
        file: &str,
        word: &str,
        start: u64,
        end: u64,
    ) -> String {
        let file = self.files[file].try_clone().expect("a descriptor");
        let options = FileOptions::new(rights(word)).page_cache_reads(word.contains('c'));
        let inserted = match &self.running {
            Running::Nothing => self.table.insert_range(file, start..end, options),
            Running::Loop(io) => io.insert_file(file, start..end, options),
            Running::Group(group) => group.insert_file(file, start..end, options),
        };
        self.inserted(name, inserted.map(FileHandle::raw))
    }

    pub(crate) fn window(
        &mut self,
        name: &str,
        buffer: &str,
        start: u64,
        end: u64,
        word: &str,
    ) -> String {
        let buffer = self.buffers[buffer].clone();
        let end = if end == u64::MAX {
            buffer.len() as u64
        } else {
            end
        };
        let inserted = match &self.running {
            Running::Nothing => self.pool.insert_range(buffer, start..end, rights(word)),
            Running::Loop(io) => io.insert_buffer(buffer, start..end, rights(word)),
            Running::Group(group) => group.insert_buffer(buffer, start..end, rights(word)),
        };
        self.inserted(name, inserted.map(BufferHandle::raw))
    }

    fn handle(&self, word: &str) -> u32 {
        match word.strip_prefix('#') {
            Some(number) => number.parse().expect("a number"),
            None => self.handles[word],
        }
    }

    pub(crate) fn file_handle(&self, word: &str) -> FileHandle {
        FileHandle::from_raw(self.handle(word))
    }

    pub(crate) fn buffer_handle(&self, word: &str) -> BufferHandle {
        BufferHandle::from_raw(self.handle(word))
    }

    pub(crate) fn populate(&self, name: &str) -> &'static str {
        let residency = self
            .table
            .residency(self.file_handle(name))
            .expect("page-cache reads");
        let mapping = residency.mapping();
        let size = mapping.file_size().expect("a size");
        mapping.populate(0..size).expect("Linux 5.14");
        "OK"
    }

    pub(crate) fn revoke(&self, name: &str, is_file: bool, within: Duration) -> String {
        let (file, buffer) = (self.file_handle(name), self.buffer_handle(name));
        let revoked = match (&self.running, is_file) {
            (Running::Nothing, _) => return "ENDED".into(),
            (Running::Loop(io), true) => io.revoke_file_within(file, within),
            (Running::Loop(io), false) => io.revoke_buffer_within(buffer, within),
            (Running::Group(group), true) => group.revoke_file_within(file, within),
            (Running::Group(group), false) => group.revoke_buffer_within(buffer, within),
        };
        result(revoked, |()| String::new())
    }

    // ---- Queues ----

    pub(crate) fn queue(&mut self, kind: Kind, slots: u32) -> String {
        let layout = kind.layout(slots);
        let made = if let Kind::Shared = kind {
            match shared_queue(layout) {
                Ok((host, memfd)) => Ok((host, mapped(&memfd, &layout))),
                Err(error) => Err(error.name()),
            }
        } else {
            Queue::anonymous(layout).map_err(|error| error.name())
        };
        match made {
            Ok((host, device)) => {
                self.hosts.push(host);
                self.devices.push(device);
                self.current = self.devices.len() - 1;
                "OK".into()
            }
            Err(name) => name,
        }
    }

    /// Adds the queue that was made last.
    pub(crate) fn add(&mut self) -> String {
        let host = self.hosts.pop().expect("a queue");
        let added = match &self.running {
            Running::Nothing => return "ENDED".into(),
            Running::Loop(io) => io.add_queue(host),
            Running::Group(group) => group.add_queue(host),
        };
        result(added, |id| format!(" {id}"))
    }

    pub(crate) fn remove(&self, queue: u64, within: Duration) -> String {
        let queue = QueueId::from_raw(queue);
        let removed = match &self.running {
            Running::Nothing => return "ENDED".into(),
            Running::Loop(io) => io.remove_queue_within(queue, within),
            Running::Group(group) => group.remove_queue_within(queue, within),
        };
        result(removed, |removed| format!(" {}", text(&removed.counters)))
    }

    pub(crate) fn loop_of(&self, queue: u64) -> usize {
        let Running::Group(group) = &self.running else {
            panic!("no group runs")
        };
        group.loop_of(QueueId::from_raw(queue)).expect("a queue")
    }

    pub(crate) fn state(&self, queue: Option<usize>) -> u32 {
        let device = &self.devices[queue.unwrap_or(self.current)];
        device.host_state().map_or(u32::MAX, |state| state as u32)
    }

    // ---- Loops ----

    pub(crate) fn doorbell(&mut self) {
        self.options = self.options.wait_policy(WaitPolicy::DOORBELL);
    }

    pub(crate) fn start(&mut self) -> String {
        let (files, buffers) = (self.table.clone(), self.pool.clone());
        let hosts = std::mem::take(&mut self.hosts).into_iter();
        if self.loops == 0 {
            let builder = IoLoop::builder()
                .files(files)
                .buffers(buffers)
                .options(self.options);
            let spawned = hosts.fold(builder, IoLoopBuilder::queue).spawn();
            return result(spawned, |io| {
                self.running = Running::Loop(io);
                String::new()
            });
        }
        let builder = LoopGroup::builder()
            .files(files)
            .buffers(buffers)
            .options(self.options);
        let builder = builder.loops(self.loops);
        let spawned = hosts.fold(builder, LoopGroupBuilder::queue).spawn();
        result(spawned, |group| {
            self.running = Running::Group(group);
            String::new()
        })
    }

    pub(crate) fn end(&mut self, drains: bool) -> String {
        match (
            std::mem::replace(&mut self.running, Running::Nothing),
            drains,
        ) {
            (Running::Nothing, _) => "ENDED".into(),
            (Running::Loop(io), true) => result(io.stop(), |()| String::new()),
            (Running::Loop(io), false) => result(io.abort(), |()| String::new()),
            (Running::Group(group), true) => result(group.stop(), |()| String::new()),
            (Running::Group(group), false) => result(group.abort(), |()| String::new()),
        }
    }

    fn queue_counters(&self) -> QueueCounters {
        match &self.running {
            Running::Nothing => None,
            Running::Loop(io) => io.queue_counters(self.current),
            Running::Group(group) => group.queue_counters(self.current),
        }
        .expect("a queue of a running loop")
    }

    /// Waits until the counters of the queue in use are as they should be.
    pub(crate) fn wait_for(
        &self,
        limit: Duration,
        are_right: impl Fn(&QueueCounters) -> bool,
    ) -> QueueCounters {
        let begun = Instant::now();
        loop {
            let counters = self.queue_counters();
            if are_right(&counters) {
                return counters;
            }
            assert!(begun.elapsed() < limit, "{counters:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn counters(&self, limit: Duration) -> String {
        let all =
            |counters: &QueueCounters| counters.claimed == counters.succeeded + counters.failed;
        text(&self.wait_for(limit, all))
    }

    // ---- Requests ----

    /// Returns whether there was a slot.
    pub(crate) fn submit(&mut self, tag: u32, request: Request) -> bool {
        let submitted = self.devices[self.current].submit(request);
        let Ok(ticket) = submitted else { return false };
        self.tickets.insert(tag, (self.current, ticket));
        true
    }

    pub(crate) fn wait(&mut self, tag: u32, limit: Duration) -> Option<Outcome> {
        let (queue, ticket) = self.tickets.remove(&tag).expect("a request");
        self.devices[queue].wait_for(ticket, limit).ok()
    }
}

/// Attaches to a queue as another process would.
fn mapped(memfd: &OwnedFd, layout: &QueueLayout) -> DeviceQueue {
    let buffer = Buffer::from_memfd(memfd.as_fd()).expect("memory");
    let base = NonNull::new(buffer.as_ptr()).expect("an address");
    // SAFETY: the bytes are mapped until the region drops the buffer, of which there is no other name; moving it does not
    // move them.
    let region = unsafe { Region::from_owner(base, layout.bytes(), buffer) };
    DeviceQueue::attach(region.expect("aligned memory")).expect("a queue")
}

fn text(counters: &QueueCounters) -> String {
    let QueueCounters {
        claimed,
        succeeded,
        failed,
        bytes_read,
        bytes_written,
        ..
    } = counters;
    format!("{claimed} {succeeded} {failed} {bytes_read} {bytes_written}")
}
