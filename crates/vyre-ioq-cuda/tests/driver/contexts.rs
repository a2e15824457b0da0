//! The current context of a thread stays as it was, whatever this crate does there, and on whichever
//! thread its objects are dropped.

#![expect(
    unsafe_code,
    reason = "launching a kernel is unsafe, even with a stand-in for the driver"
)]

use std::sync::Arc;
use std::thread;

use cudarc::driver::result::ctx::get_current;
use vyre_ioq::QueueLayout;
use vyre_ioq_cuda::landing::{CopyEngine, LandingBuffer, Mover};
use vyre_ioq_cuda::{
    CudaError, Gpu, GpuMemory, GpuQueue, Kernel, LaunchConfig, MappedMemory, Program, QueueView,
};

use super::Other;

#[test]
fn every_call_and_every_drop_leaves_the_current_context_alone() {
    let test = "every_call_and_every_drop_leaves_the_current_context_alone";
    if let Some(other) = Other::new(test, "contexts") {
        other.with("FAKE_NVRTC", "12.4").run();
    }
}

#[test]
fn what_is_dropped_on_another_thread_leaves_that_threads_context_alone() {
    let test = "what_is_dropped_on_another_thread_leaves_that_threads_context_alone";
    if let Some(other) = Other::new(test, "threads") {
        other.with("FAKE_NVRTC", "12.4").run();
    }
}

/// Returns the current context, which is somebody else's.
fn current() -> usize {
    let context = get_current().expect("the driver is there");
    context.expect("every thread has one") as usize
}

/// Calls `what` and returns its result; panics unless the current context is then as it was.
#[track_caller]
fn unchanged<T>(what: impl FnOnce() -> T) -> T {
    let before = current();
    let result = what();
    assert_eq!(current(), before, "another context is current");
    result
}

#[track_caller]
fn made<T>(what: impl FnOnce() -> Result<T, CudaError>) -> T {
    unchanged(what).expect("the stand-in refuses nothing of this")
}

#[track_caller]
fn gone<T>(it: T) {
    unchanged(|| drop(it));
}

pub(crate) fn part() {
    let gpu = Gpu::open(0).expect("a stand-in");
    memory(&gpu);
    queues(&gpu);
    landing(&gpu);
    kernels(&gpu);
    let last = gpu.clone();
    gone(gpu);
    gone(last);
    let calls = super::calls();
    for call in [
        "cuMemFree",
        "cuMemHostUnregister",
        "cuStreamDestroy",
        "cuEventDestroy",
        "cuModuleUnload",
    ] {
        assert!(calls.iter().any(|it| it == call), "no {call}");
    }
    assert_eq!(calls.last().expect("calls"), "cuDevicePrimaryCtxRelease");
}

fn memory(gpu: &Gpu) {
    let whole = made(|| MappedMemory::anonymous(gpu, 16 << 10));
    let (one, other) = unchanged(|| whole.split(4096));
    let buffer = unchanged(|| one.into_buffer()).expect("bytes");
    let region = unchanged(|| other.into_region()).expect("aligned");
    gone(buffer);
    gone(region);
    let (memory, memfd) = made(|| MappedMemory::memfd(gpu, 4096));
    let again = made(|| MappedMemory::from_memfd(gpu, &memfd));
    gone(memory);
    gone(again);
    let zeroed = made(|| GpuMemory::zeroed(gpu, 100));
    assert_eq!(made(|| zeroed.read()), [0; 100]);
    gone(zeroed);
    gone(made(|| GpuMemory::of(gpu, b"bytes")));
    unchanged(|| GpuMemory::zeroed(gpu, 0)).expect_err("no bytes");
}

fn queues(gpu: &Gpu) {
    let (host, queue) = made(|| GpuQueue::new(gpu, QueueLayout::with_slots(64)));
    gone(queue);
    gone(host);
    let refused = unchanged(|| GpuQueue::new(gpu, QueueLayout::bare(64)));
    assert!(matches!(refused, Err(CudaError::BareQueue)), "{refused:?}");
}

fn landing(gpu: &Gpu) {
    let host = made(|| MappedMemory::anonymous(gpu, 4096));
    let host = unchanged(|| host.into_buffer()).expect("bytes");
    let landing = made(|| LandingBuffer::behind(gpu, host.clone()));
    let mut engine = made(|| CopyEngine::new(gpu, vec![landing.clone()]));
    let place = engine.destination(&host).expect("it does");
    unchanged(|| engine.start(place, 0, 4096)).expect("inside");
    assert_eq!(unchanged(|| engine.close_batch()), Ok(true));
    assert_eq!(unchanged(|| engine.has_ended()), Ok(true));
    gone(landing);
    gone(engine);
    gone(host);
}

fn kernels(gpu: &Gpu) {
    let kernel = made(|| Kernel::compile(gpu, "", "a_kernel"));
    made(|| kernel.resident_blocks(&LaunchConfig::new(1, 32)));
    gone(kernel);
    unchanged(|| Kernel::compile(gpu, "nonsense!", "a_kernel")).expect_err("it says so");

    let program = Program::new("", "a_kernel", "");
    let loaded = made(|| program.load(gpu));
    let (host, queue) = made(|| GpuQueue::new(gpu, QueueLayout::with_slots(64)));
    let data = made(|| MappedMemory::anonymous(gpu, 4096));
    let results = Arc::new(made(|| GpuMemory::zeroed(gpu, 64)));
    let keep = (queue, data, Arc::clone(&results));
    let config = LaunchConfig::new(2, 32);
    // SAFETY: nothing runs.
    let launch = made(|| unsafe { loaded.kernel().launch(config, &0_u64, keep) });
    assert!(made(|| launch.is_done()));
    made(|| launch.wait());
    made(|| results.read());
    gone((host, loaded));
    gone(launch);
    gone(results);
}

pub(crate) fn part_of_threads() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let memory = GpuMemory::zeroed(&gpu, QueueView::DEVICE_STATE_BYTES).expect("memory");
    let mapped = MappedMemory::anonymous(&gpu, 4096).expect("memory");
    let buffer = mapped.into_buffer().expect("bytes");
    let kernel = Kernel::compile(&gpu, "", "a_kernel").expect("a kernel");
    let dropped = thread::spawn(move || gone((memory, buffer, kernel, gpu)));
    dropped.join().expect("it found its context as it was");
    assert!(super::calls().iter().any(|it| it == "cuMemFree"));
}
