//! Windows of a file: asked for through a queue, pinned beside the loop, refused, and given back.
#![expect(
    unsafe_code,
    reason = "the table of the kernels is read as a kernel does"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::slice;
use std::thread;
use std::time::Duration;

use vyre_ioloop::{BufferTable, FileTable, IoLoop, Rights};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Queue, QueueLayout, Request};
use vyre_ioq_cuda::Gpu;
use vyre_ioq_cuda::view::{ViewError, ViewState, pinned_bytes, set_pin_limit};
use vyre_ioq_cuda::windows::{WindowTransport, Windows, WindowsBuilder};
use vyre_uring::Buffer;
use vyre_uring::vyre_mapped::MapError;

use super::views::file_of;
use super::{Other, calls};

const WINDOW: u64 = 64 << 10;

#[test]
fn a_window_is_pinned_when_it_is_asked_for_and_given_back_after_what_runs() {
    let test = "a_window_is_pinned_when_it_is_asked_for_and_given_back_after_what_runs";
    if let Some(other) = Other::new(test, "windows") {
        other.run();
    }
}

#[test]
fn windows_are_refused_with_their_errno_and_read_all_the_same() {
    let test = "windows_are_refused_with_their_errno_and_read_all_the_same";
    if let Some(other) = Other::new(test, "refused_windows") {
        other.run();
    }
}

#[test]
fn a_gpu_without_windows_says_why() {
    let test = "a_gpu_without_windows_says_why";
    for (name, part) in [
        ("FAKE_CUDA_NO_READ_ONLY", "windows_of_an_old_gpu"),
        ("FAKE_CUDA_OTHER_POINTERS", "windows_with_other_addresses"),
    ] {
        if let Some(other) = Other::new(test, part) {
            other.with(name, "1").run();
        }
    }
}

#[test]
fn windows_are_given_back_by_their_thread_and_not_by_the_loops() {
    let test = "windows_are_given_back_by_their_thread_and_not_by_the_loops";
    if let Some(other) = Other::new(test, "windows_of_a_running_kernel") {
        other.run();
    }
}

#[test]
fn windows_that_no_longer_show_their_file_say_so() {
    let test = "windows_that_no_longer_show_their_file_say_so";
    if let Some(other) = Other::new(test, "stale_windows") {
        other.run();
    }
}

/// A loop that serves a file with windows, and the device end of its queue.
struct Rig {
    io: IoLoop,
    device: DeviceQueue,
    file: FileHandle,
    pool: BufferHandle,
    memory: Buffer,
}

fn rig(file: &File, windows: &[Windows]) -> Rig {
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = file.try_clone().expect("a descriptor");
    let file = files.insert(file, Rights::READ).expect("room");
    let memory = Buffer::anonymous(4096).expect("memory");
    let pool = buffers.insert(memory.clone()).expect("room");
    let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let windows = windows.to_vec();
    let io = builder.spawn_with(move |base| WindowTransport::new(base, &windows));
    Rig {
        io: io.expect("a loop"),
        device,
        file,
        pool,
        memory,
    }
}

impl Rig {
    fn run(&self, request: Request) -> Result<u32, Errno> {
        let ticket = self.device.submit(request).expect("a slot");
        let outcome = self.device.wait_for(ticket, Duration::from_secs(60));
        outcome.expect("it comes").bytes()
    }

    fn map(&self, offset: u64, count: u32) -> Result<u32, Errno> {
        self.run(Request::map(self.file, offset, count))
    }

    fn read(&self, offset: u64) -> Result<u32, Errno> {
        self.run(Request::read(self.file, offset, 64).into_buffer(self.pool, 0))
    }
}

fn builder(gpu: &Gpu) -> WindowsBuilder {
    Windows::builder(gpu).window_bytes(WINDOW).read_ahead(0)
}

/// Returns the words of the kernels' table.
fn table(windows: &Windows, count: usize) -> Vec<u32> {
    let words: [u64; 5] = bytemuck::cast(windows.device());
    let table = words[2] as *const u32;
    let word = |at| {
        // SAFETY: in this process the address for kernels is that of the table, which has a word for each window.
        unsafe { table.wrapping_add(at).read_volatile() }
    };
    (0..count).map(word).collect()
}

fn pins(calls: &[String]) -> Vec<&String> {
    let pins = calls.iter();
    pins.filter(|call| call.starts_with("cuMemHostRegister read-only"))
        .collect()
}

pub(crate) fn windows() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let len = 4 * WINDOW as usize + 5000;
    let file = file_of(len);
    let windows = builder(&gpu).build(&file).expect("windows");
    assert_eq!(
        (windows.len(), windows.device().window_bytes()),
        (len as u64, WINDOW)
    );
    assert_eq!(pinned_bytes(), 0, "nothing before it is asked for");
    let rig = rig(&file, slice::from_ref(&windows));
    calls();

    assert_eq!(rig.map(WINDOW + 7, 9), Ok(0));
    assert_eq!(table(&windows, 5), [0, 1, 0, 0, 0]);
    assert_eq!(pinned_bytes(), WINDOW);
    assert_eq!(pins(&calls()), ["cuMemHostRegister read-only 65536"]);
    assert_eq!(rig.map(WINDOW, WINDOW as u32), Ok(0));
    assert_eq!(pins(&calls()).len(), 0, "it is there");
    // Several windows by one call, and the end of the file inside a page.
    assert_eq!(rig.map(2 * WINDOW, u32::MAX), Ok(0));
    assert_eq!(table(&windows, 5), [0, 1, 1, 1, 1]);
    assert_eq!(pins(&calls()), ["cuMemHostRegister read-only 139264"]);
    assert_eq!(rig.map(0, 0), Ok(0));
    assert_eq!(table(&windows, 5), [0, 1, 1, 1, 1], "no bytes, no window");
    let found = windows.counters();
    assert_eq!(
        (found.asked, found.hits, found.mapped, found.calls),
        (3, 1, 4, 2)
    );
    assert_eq!((found.ahead, found.refused, found.failed), (0, 0, 0));
    assert!(
        found.to_string().contains("3 MAPs, 1 of them hits"),
        "{found}"
    );
    // The bytes that a kernel loads there are those of the file.
    let words: [u64; 5] = bytemuck::cast(windows.device());
    for offset in [WINDOW, 4 * WINDOW + 4999] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("inside");
        // SAFETY: the address for kernels is that of a mapping, which reaches past this byte.
        let found = unsafe { ((words[0] + offset) as *const u8).read_volatile() };
        assert_eq!(found, byte[0]);
    }

    calls();
    rig.io.stop().expect("an orderly end");
    assert_eq!(calls(), Vec::<String>::new(), "the loop gives nothing back");
    windows.close();
    windows.close();
    assert_waits_first(&calls());
    assert_eq!(pinned_bytes(), 0);

    // Where nothing was mapped, kernels use the tables all the same.
    let windows = builder(&gpu).build(&file).expect("windows");
    calls();
    windows.close();
    assert_waits_first(&calls());
}

/// Nothing is given back before what runs has ended.
fn assert_waits_first(calls: &[String]) {
    assert_eq!(calls[0], "cuCtxSynchronize", "{calls:?}");
    for call in ["cuMemHostUnregister", "cuMemFree"] {
        assert!(calls.iter().any(|it| it == call), "{calls:?}");
    }
}

pub(crate) fn refused_windows() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of(8 * WINDOW as usize);
    let windows = builder(&gpu)
        .limit(3 * WINDOW)
        .build(&file)
        .expect("windows");
    let rig = rig(&file, slice::from_ref(&windows));
    // A limit of its own. What there is room for is mapped.
    assert_eq!(rig.map(0, 2 * WINDOW as u32), Ok(0));
    assert_eq!(rig.map(4 * WINDOW, 2 * WINDOW as u32), Err(Errno::ENOBUFS));
    assert_eq!(table(&windows, 8), [1, 1, 0, 0, 1, 0, 0, 0]);
    assert_eq!(rig.map(7 * WINDOW, 1), Err(Errno::ENOBUFS));
    assert_eq!(
        rig.read(7 * WINDOW),
        Ok(64),
        "the queue reads what is not mapped"
    );
    let mut byte = [0];
    rig.memory.read_at(5, &mut byte).expect("inside");
    assert_eq!(u64::from(byte[0]), (7 * WINDOW + 5) % 251);
    assert_eq!(windows.counters().refused, 2);

    // The limit of the process.
    let others = builder(&gpu).build(&file).expect("windows");
    let other = self::rig(&file, slice::from_ref(&others));
    set_pin_limit(4 * WINDOW);
    assert_eq!(other.map(0, 1), Ok(0));
    assert_eq!(other.map(WINDOW, 1), Err(Errno::ENOBUFS));
    set_pin_limit(u64::MAX);
    assert_eq!(other.map(WINDOW, 1), Ok(0), "there is room again");

    // Ranges that no window has, of a handle without an end.
    for (offset, count) in [(8 * WINDOW, 1), (1 << 40, 5), (i64::MAX as u64 - 9, 9)] {
        assert_eq!(other.map(offset, count), Err(Errno::EOPNOTSUPP), "{offset}");
    }
    for (offset, count) in [(u64::MAX, 1), (1 << 63, 1)] {
        assert_eq!(other.map(offset, count), Err(Errno::ERANGE), "{offset}");
    }
    // The file has become shorter.
    file.set_len(3 * WINDOW + 1).expect("shorter");
    assert_eq!(other.map(7 * WINDOW, 1), Err(Errno::EIO));
    assert_eq!(other.read(7 * WINDOW), Ok(0));
    assert_eq!(other.map(2 * WINDOW, 1), Ok(0));

    // Another file has no windows, and none are left after the end.
    let strange = file_of(4096);
    let none = self::rig(&strange, slice::from_ref(&others));
    assert_eq!(none.map(0, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!(none.read(0), Ok(64));
    others.close();
    assert_eq!(other.map(0, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!(other.read(0), Ok(64));

    for bytes in [0, 4096, 3 << 20, 2 << 30, u64::MAX] {
        let refused = builder(&gpu)
            .window_bytes(bytes)
            .build(&file)
            .expect_err("unfit");
        assert_eq!(refused, ViewError::WindowBytes(bytes));
    }
    let empty = builder(&gpu).build(file_of(0)).expect_err("no bytes");
    assert_eq!(empty, ViewError::PastEnd { size: 0 });
    let directory = File::open("/").expect("a directory");
    let refused = builder(&gpu).build(directory).expect_err("no file");
    assert_eq!(refused, MapError::NotRegular.into());
}

pub(crate) fn windows_of_an_old_gpu() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let refused = builder(&gpu).build(file_of(5)).expect_err("it cannot");
    assert_eq!(refused, ViewError::Unsupported("a stand-in".to_owned()));
}

pub(crate) fn windows_with_other_addresses() {
    let gpu = Gpu::open(0).expect("a stand-in");
    assert!(!gpu.capabilities().uses_host_pointers);
    let refused = builder(&gpu).build(file_of(5)).expect_err("it cannot");
    assert_eq!(refused, ViewError::OtherAddresses("a stand-in".to_owned()));
}

/// While a kernel runs, giving back waits. A loop whose kernel waits for it must not.
pub(crate) fn windows_of_a_running_kernel() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of(2 * WINDOW as usize);
    let windows = builder(&gpu).build(&file).expect("windows");
    let rig = rig(&file, slice::from_ref(&windows));
    assert_eq!(rig.map(0, 1), Ok(0));
    let running = std::env::var(super::RUNNING).expect("a path");
    std::fs::write(&running, "").expect("room");
    drop(windows);
    // The thread waits for the kernel, and the loop serves it.
    while rig.map(0, 1) != Err(Errno::EOPNOTSUPP) {
        thread::yield_now();
    }
    assert_eq!(rig.read(0), Ok(64));
    rig.io.stop().expect("it does not wait for the kernel");
    assert_eq!(pinned_bytes(), WINDOW);
    std::fs::remove_file(running).expect("it is there");
    while pinned_bytes() > 0 {
        thread::yield_now();
    }
}

pub(crate) fn stale_windows() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of(4 * WINDOW as usize);
    thread::sleep(Duration::from_millis(40));
    let windows = builder(&gpu).build(&file).expect("windows");
    let rig = rig(&file, slice::from_ref(&windows));
    assert_eq!(rig.map(WINDOW, 1), Ok(0));
    assert_eq!(windows.check(), Ok(ViewState::Current));
    // A write through the page cache shows, and windows that are not mapped cannot be stale.
    file.write_all_at(&[1], WINDOW).expect("room");
    assert_eq!(windows.check(), Ok(ViewState::Current));
    let size = 4 * WINDOW;
    file.set_len(WINDOW).expect("shorter");
    assert_eq!(windows.check(), Ok(ViewState::Shorter { size: WINDOW }));
    file.set_len(size).expect("longer");
    assert_eq!(windows.check(), Ok(ViewState::Detached { offset: WINDOW }));
}
