//! Shared by the tests: memory that a hostile device may store to, tables, and an engine that a test
//! steps.

#![expect(
    unsafe_code,
    reason = "tests use `Region::from_owner` and install signal handlers"
)]
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod faulty;
pub(crate) mod live;
pub(crate) mod manual;

use std::fs::File;
use std::io::Write;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, FileFailurePersistence};
use vyre_ioloop::{
    BufferTable, Engine, FileTable, IoLoop, IoLoopBuilder, LoopOptions, Rights, WaitPolicy,
};
use vyre_ioq::abi::{GROUP_SLOTS, HEADER_BYTES, SlotImage, header_word, status, word};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, Features, FileHandle, HostQueue, Outcome, Queue, QueueLayout,
    Region, Request, Ticket,
};
use vyre_uring::{AnyTransport, Buffer, KernelFeatures, Ring, SetupStep, SimTransport, Transport};

/// A limit that is reached only if something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

const WORD: usize = 4;
const PAGE_WORDS: usize = 1024;

#[repr(C, align(4096))]
struct Page([AtomicU32; PAGE_WORDS]);

/// The memory of a queue, and its slots as the device sees them. Any word may be stored at any time.
#[derive(Clone)]
pub(crate) struct Slots {
    pages: Arc<[Page]>,
    /// The word where the queue begins, its bytes, and the word where its slots begin.
    start: usize,
    len: usize,
    first: usize,
    stride: usize,
}

impl Slots {
    /// Makes a queue with a header.
    pub(crate) fn queue(slots: u32) -> (Self, HostQueue, DeviceQueue) {
        let layout = layout(slots);
        let memory = Self::new(layout.bytes(), HEADER_BYTES / WORD, 16);
        let (host, device) = Queue::in_region(memory.region(), layout).expect("fits");
        (memory, host, device)
    }

    /// Makes a bare queue, as a vyre 0.7 device does.
    pub(crate) fn bare(slots: usize) -> (Self, HostQueue, DeviceQueue) {
        Self::bare_at(0, slots)
    }

    /// The same, `start` words after a page boundary.
    pub(crate) fn bare_at(start: usize, slots: usize) -> (Self, HostQueue, DeviceQueue) {
        assert!(start < PAGE_WORDS);
        let memory = Self {
            start,
            ..Self::new(slots * 8 * WORD, start, 8)
        };
        let host = HostQueue::attach_bare(memory.region()).expect("fits");
        let device = DeviceQueue::attach_bare(memory.region()).expect("fits");
        (memory, host, device)
    }

    pub(crate) fn new(len: usize, first: usize, stride: usize) -> Self {
        // Room for a queue that begins a little later, and for the word after it.
        let pages = (len + HEADER_BYTES).div_ceil(WORD * PAGE_WORDS);
        Self {
            start: 0,
            pages: (0..pages)
                .map(|_| Page([const { AtomicU32::new(0) }; PAGE_WORDS]))
                .collect(),
            len,
            first,
            stride,
        }
    }

    pub(crate) fn region(&self) -> Region {
        let pages: *const Page = self.pages.as_ptr();
        let base = pages
            .cast::<u8>()
            .cast_mut()
            .wrapping_add(self.start * WORD);
        let base = NonNull::new(base).expect("an allocation");
        // SAFETY: the bytes are atomics inside the pages, which live as long as the `Arc` handed
        // over and do not move with it; they hold `len` bytes and a page, and `start` is inside the
        // first.
        unsafe { Region::from_owner(base, self.len, Arc::clone(&self.pages)) }.expect("aligned")
    }

    pub(crate) fn load(&self, slot: u32, word: usize) -> u32 {
        u32::from_le(self.word(slot, word).load(Ordering::Acquire))
    }

    pub(crate) fn store(&self, slot: u32, word: usize, value: u32) {
        self.word(slot, word)
            .store(value.to_le(), Ordering::Release);
    }

    /// Stores a request's words, the status last.
    pub(crate) fn publish(&self, slot: u32, request: &Request) {
        self.publish_words(slot, &words_of(request));
    }

    pub(crate) fn publish_words(&self, slot: u32, words: &[u32; 16]) {
        for (number, &value) in words.iter().enumerate().take(self.stride) {
            if number != word::STATUS {
                self.store(slot, number, value);
            }
        }
        if slot >= GROUP_SLOTS {
            self.mark(slot / GROUP_SLOTS);
        }
        self.store(slot, word::STATUS, status::PUBLISHED);
    }

    /// Stores a word of the header.
    pub(crate) fn store_header(&self, word: usize, value: u32) {
        self.at(word).store(value.to_le(), Ordering::Relaxed);
    }

    /// Marks a group of slots as in use.
    pub(crate) fn mark(&self, group: u32) {
        let word = header_word::IN_USE + group as usize;
        self.at(word).store(1_u32.to_le(), Ordering::Relaxed);
    }

    /// Marks all groups, so that a sweep takes long.
    pub(crate) fn mark_all(&self, slots: u32) {
        (0..slots.div_ceil(GROUP_SLOTS)).for_each(|group| self.mark(group));
    }

    /// Returns the outcome in a slot, if there is one.
    pub(crate) fn outcome(&self, slot: u32) -> Option<Result<u32, Errno>> {
        match self.load(slot, word::STATUS) {
            status::OK => Some(Ok(self.load(slot, word::COUNT))),
            status::ERROR => Some(Err(Errno::from_raw(self.load(slot, word::COUNT)))),
            _ => None,
        }
    }

    /// Returns the bytes of a bare slot as they are in memory.
    pub(crate) fn bare_bytes(&self, slot: u32) -> [u8; 32] {
        core::array::from_fn(|byte| {
            let word = self.word(slot, byte / WORD).load(Ordering::Acquire);
            word.to_ne_bytes()[byte % WORD]
        })
    }

    /// Returns the words just before and just after a queue that does not begin with a page.
    pub(crate) fn neighbours(&self) -> [&AtomicU32; 2] {
        [self.start - 1, self.start + self.len / WORD].map(|word| self.at(word))
    }

    fn word(&self, slot: u32, word: usize) -> &AtomicU32 {
        assert!(word < self.stride);
        self.at(self.first + slot as usize * self.stride + word)
    }

    fn at(&self, word: usize) -> &AtomicU32 {
        &self.pages[word / PAGE_WORDS].0[word % PAGE_WORDS]
    }
}

/// Returns the words of a request, in the order of the wire.
pub(crate) fn words_of(request: &Request) -> [u32; 16] {
    let (file, buffer) = (request.file().raw(), request.buffer().raw());
    let (source, destination) = match request.op() {
        vyre_ioq::Op::Read => (file, buffer),
        _ => (buffer, file),
    };
    let image = SlotImage {
        op: request.op().word(),
        source,
        destination,
        file_offset_low: request.file_offset() as u32,
        file_offset_high: (request.file_offset() >> 32) as u32,
        count: request.count(),
        status: status::PUBLISHED,
        tag: request.tag(),
        buffer_offset_low: request.buffer_offset() as u32,
        buffer_offset_high: (request.buffer_offset() >> 32) as u32,
        flags: request.flags().bits(),
        deadline: request.deadline(),
        reserved: [0; 4],
    };
    [
        image.op,
        image.source,
        image.destination,
        image.file_offset_low,
        image.file_offset_high,
        image.count,
        image.status,
        image.tag,
        image.buffer_offset_low,
        image.buffer_offset_high,
        image.flags,
        image.deadline,
        0,
        0,
        0,
        0,
    ]
}

/// Returns bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

/// Returns an unnamed file with these bytes.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room on the disk");
    file
}

/// Returns a file in memory with these bytes, which allows page-cache reads.
pub(crate) fn memfd_of(bytes: &[u8]) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("test", flags).expect("a file"));
    file.write_all(bytes).expect("room");
    file
}

pub(crate) fn contents(buffer: &Buffer, offset: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    buffer.read_at(offset, &mut bytes).expect("inside");
    bytes
}

pub(crate) fn memory(len: usize) -> Buffer {
    Buffer::anonymous(len).expect("memory")
}

/// Makes memory that is dropped together with `owner`.
pub(crate) fn memory_with(len: usize, owner: impl Send + Sync + 'static) -> Buffer {
    let memory = memory(len);
    let base = NonNull::new(memory.as_ptr()).expect("mapped");
    // SAFETY: the bytes are mapped until `memory` is dropped, which the buffer keeps. No other name of
    // it is left.
    unsafe { Buffer::from_raw_parts(base, len, Box::new((memory, owner))) }
}

/// Returns the memory of a queue. Nothing else may access the bytes as long as the region exists.
pub(crate) fn region_of(memory: Buffer) -> Region {
    let base = NonNull::new(memory.as_ptr()).expect("mapped");
    let len = memory.len();
    // SAFETY: the bytes are mapped until `memory` is dropped, which the region keeps; moving it does not move them.
    unsafe { Region::from_owner(base, len, memory) }.expect("aligned")
}

/// The usual tables: one file of `pattern(1, …)`, readable, writable and syncable, and one buffer.
pub(crate) struct Tables {
    pub(crate) files: FileTable,
    pub(crate) buffers: BufferTable,
    pub(crate) file: FileHandle,
    pub(crate) pool: BufferHandle,
    pub(crate) disk: File,
    pub(crate) memory: Buffer,
}

impl Tables {
    pub(crate) fn new(file_len: usize, buffer_len: usize) -> Self {
        let mut files = FileTable::new();
        let mut buffers = BufferTable::new();
        let disk = file_of(&pattern(1, file_len));
        let memory = memory(buffer_len);
        let file = files
            .insert(disk.try_clone().expect("a descriptor"), Rights::all())
            .expect("fit");
        let pool = buffers.insert(memory.clone()).expect("fit");
        Self {
            files,
            buffers,
            file,
            pool,
            disk,
            memory,
        }
    }

    /// Adds the reading end of an empty pipe: reads of it wait until something is written.
    pub(crate) fn add_pipe(&mut self) -> (FileHandle, std::io::PipeWriter) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let handle = self.files.insert(reader, Rights::READ).expect("fit");
        (handle, writer)
    }

    pub(crate) fn loop_on(self, host: HostQueue) -> IoLoop {
        self.builder().queue(host).spawn().expect("io_uring")
    }

    pub(crate) fn builder(self) -> IoLoopBuilder {
        IoLoop::builder()
            .files(self.files)
            .buffers(self.buffers)
            .options(loop_options())
    }

    /// Makes an engine on a transport of the kernel, and the device end of its queue.
    pub(crate) fn on_transport(self, entries: u32, slots: u32) -> Rig<AnyTransport> {
        self.on(transport(entries), slots)
    }

    pub(crate) fn on_sim(self, sim: SimTransport, slots: u32) -> Rig<SimTransport> {
        self.on(sim, slots)
    }

    pub(crate) fn on<T: Transport>(self, transport: T, slots: u32) -> Rig<T> {
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(slots)).expect("a queue");
        Rig {
            engine: self.engine(transport, vec![host]),
            device,
        }
    }

    pub(crate) fn engine<T: Transport>(self, transport: T, queues: Vec<HostQueue>) -> Engine<T> {
        Engine::new(transport, self.files, self.buffers, queues).expect("accepted")
    }
}

/// Returns the policy of loops in tests that are about something else. The step `policies` of `cargo xtask ci` runs all
/// tests with each.
fn policy() -> WaitPolicy {
    match std::env::var("VYRE_IO_POLICY").as_deref() {
        Ok("spin") => WaitPolicy::Spin,
        Ok("doorbell") => WaitPolicy::DOORBELL,
        Ok("adaptive") | Err(_) => WaitPolicy::ADAPTIVE,
        Ok(other) => panic!("no policy {other}: spin, adaptive or doorbell"),
    }
}

/// Returns what the kernel of the tests is treated as lacking: what is newer than the version in `VYRE_IO_KERNEL`. The
/// step `rungs` of `cargo xtask ci` runs all tests as on older kernels.
pub(crate) fn withheld() -> KernelFeatures {
    let Ok(version) = std::env::var("VYRE_IO_KERNEL") else {
        return KernelFeatures::empty();
    };
    let numbers = version.split_once('.');
    let numbers =
        numbers.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) = numbers.expect("a version such as 5.10");
    KernelFeatures::newer_than(major, minor)
}

/// Returns the options of loops in tests that are about something else.
pub(crate) fn loop_options() -> LoopOptions {
    LoopOptions::new()
        .wait_policy(policy())
        .withhold(withheld())
}

/// Returns the layout of a queue, which offers a doorbell if the policy sleeps on it.
pub(crate) fn layout(slots: u32) -> QueueLayout {
    let layout = QueueLayout::with_slots(slots);
    match policy() {
        WaitPolicy::Doorbell { .. } => layout.with_features(Features::DOORBELL),
        _ => layout,
    }
}

/// Makes the transport that a loop would have: a ring, or threads where io_uring is refused. The step
/// `threads` of `cargo xtask ci` runs all tests where it is.
pub(crate) fn transport(entries: u32) -> AnyTransport {
    AnyTransport::builder()
        .withhold(withheld())
        .entries(entries)
        .files(64)
        .buffers(64)
        .build()
        .expect("a transport")
}

/// Says that a test about what io_uring registers is skipped, if this transport is not a ring, or if the kernel is too old
/// to register. Returns the ring.
pub(crate) fn ring_of<'a>(transport: &'a AnyTransport, test: &str) -> Option<&'a Ring> {
    let why = match transport {
        AnyTransport::Ring(ring)
            if ring.setup_report().buffers() == SetupStep::Refused(vyre_uring::Errno::INVAL) =>
        {
            "this kernel registers no buffers"
        }
        AnyTransport::Ring(ring) => return Some(ring),
        AnyTransport::ThreadPool(_) => "io_uring is refused here",
    };
    let line = format!("SKIPPED: {test}: {why}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error");
    None
}

/// An engine that the test steps.
pub(crate) struct Rig<T: Transport> {
    pub(crate) engine: Engine<T>,
    pub(crate) device: DeviceQueue,
}

impl<T: Transport> Rig<T> {
    pub(crate) fn submit(&self, request: Request) -> Ticket {
        self.device.submit(request).expect("a free slot")
    }

    /// Steps until the request has its outcome.
    pub(crate) fn wait(&mut self, mut ticket: Ticket) -> Outcome {
        let end = Instant::now() + LIMIT;
        loop {
            ticket = match self.device.take(ticket) {
                Ok(outcome) => return outcome,
                Err(ticket) => ticket,
            };
            assert!(
                Instant::now() < end,
                "slot {} without an outcome",
                ticket.slot()
            );
            if self.engine.step().is_idle() {
                self.engine.wait(Duration::from_micros(100));
            }
        }
    }

    pub(crate) fn wait_all(&mut self, tickets: Vec<Ticket>) -> Vec<Outcome> {
        tickets
            .into_iter()
            .map(|ticket| self.wait(ticket))
            .collect()
    }

    pub(crate) fn run(&mut self, request: Request) -> Result<u32, Errno> {
        let ticket = self.submit(request);
        self.wait(ticket).result
    }

    /// Steps for a while, to give what must not happen a chance.
    pub(crate) fn linger(&mut self) {
        linger(&mut self.engine);
    }

    /// Returns whether a request has no outcome yet.
    pub(crate) fn pending(&self, ticket: &Ticket) -> bool {
        self.device.poll(ticket).is_none()
    }
}

pub(crate) fn linger<T: Transport>(engine: &mut Engine<T>) {
    for _ in 0..20 {
        let _ = engine.step();
        engine.wait(Duration::from_micros(500));
    }
}

/// Waits for something that another thread does.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for an outcome from a running loop.
pub(crate) fn outcome_of(device: &DeviceQueue, ticket: Ticket) -> Result<u32, Errno> {
    let outcome = device.wait_for(ticket, LIMIT).expect("an outcome");
    outcome.result
}

/// Returns whether a thread of this process exists. It may, for a moment after it was joined.
pub(crate) fn thread_lives(thread_id: u32) -> bool {
    std::path::Path::new(&format!("/proc/self/task/{thread_id}")).exists()
}

extern "C" fn do_nothing(_: libc::c_int) {}

/// Gives SIGUSR1 a handler that does nothing, and does not restart the call that it interrupts.
pub(crate) fn let_signals_interrupt() {
    // SAFETY: all zeroes is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler touches nothing, so it may interrupt anything.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// Sends SIGUSR1 to one thread of this process. It must have a handler by then.
pub(crate) fn signal(thread_id: u32) {
    let (process, thread) = (std::process::id() as libc::pid_t, thread_id as libc::pid_t);
    // SAFETY: a system call on numbers alone; the handler was set by `let_signals_interrupt`.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
}

/// Gives a signal its default action, which usually ends the process.
pub(crate) fn let_signal_kill(number: libc::c_int) {
    // SAFETY: no handler is installed.
    let was = unsafe { libc::signal(number, libc::SIG_DFL) };
    assert_ne!(was, libc::SIG_ERR);
}

/// Runs `child` in a fork of this process, and returns whether it returned true within the limit.
pub(crate) fn in_fork(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child has this thread alone and does nothing but what the test gives it, which
    // takes no lock that another thread may have; then it ends without unwinding.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: it ends the process.
            unsafe { libc::_exit(libc::c_int::from(!done.unwrap_or(false))) }
        }
        child => {
            let end = Instant::now() + LIMIT;
            let mut status = 0;
            // SAFETY: the status is written to; the process is a child of this one, and is waited
            // for by nobody else.
            while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
                if Instant::now() > end {
                    // SAFETY: as above; it has not been waited for, so the number is still its own.
                    unsafe { libc::kill(child, libc::SIGKILL) };
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            status == 0
        }
    }
}

/// Returns the settings of a property test that keeps its failing cases in a file.
pub(crate) fn keeping(file: &'static str) -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..Config::default()
    }
}
