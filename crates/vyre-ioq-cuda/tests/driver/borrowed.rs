//! Contexts, streams and memory that other code made: they are used as they are, and neither destroyed nor
//! freed.

#![expect(unsafe_code, reason = "handles of other code are taken on its word")]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::result::ctx::{get_current, set_current};
use cudarc::driver::sys;
use vyre_ioq_cuda::landing::{CopyEngine, LandingBuffer, MoveError, Mover};
use vyre_ioq_cuda::view::View;
use vyre_ioq_cuda::{CudaError, Gpu, GpuMemory, Kernel, LaunchConfig, MappedMemory, Stream};

use super::{Other, calls, get_on, get_stuck};

#[test]
fn a_context_of_the_callers_is_used_and_not_released() {
    let test = "a_context_of_the_callers_is_used_and_not_released";
    if let Some(other) = Other::new(test, "lent_context") {
        let other = other.with("FAKE_CUDA_LENT", "1");
        other.with("FAKE_NVRTC", "12.4").run();
    }
}

#[test]
fn a_current_context_that_is_not_the_primary_one_is_refused() {
    let test = "a_current_context_that_is_not_the_primary_one_is_refused";
    if let Some(other) = Other::new(test, "other_context") {
        other.run();
    }
}

#[test]
fn memory_of_the_callers_is_used_and_not_freed() {
    let test = "memory_of_the_callers_is_used_and_not_freed";
    if let Some(other) = Other::new(test, "lent_memory") {
        other.run();
    }
}

#[test]
fn memory_that_is_not_pinned_is_refused() {
    let test = "memory_that_is_not_pinned_is_refused";
    if let Some(other) = Other::new(test, "memory_not_pinned") {
        other.with("FAKE_CUDA_NOT_PINNED", "1").run();
    }
}

#[test]
fn a_stream_of_the_callers_is_used_and_not_destroyed() {
    let test = "a_stream_of_the_callers_is_used_and_not_destroyed";
    if let Some(other) = Other::new(test, "lent_stream") {
        other.with("FAKE_NVRTC", "12.4").run();
    }
}

fn count(calls: &[String], name: &str) -> usize {
    calls.iter().filter(|call| call.starts_with(name)).count()
}

pub(crate) fn lent_context() {
    let context = get_current().expect("the driver is there").expect("one");
    // SAFETY: the context is there as long as the process.
    let gpu = unsafe { Gpu::from_context(context.cast()) }.expect("a stand-in");
    assert_eq!(gpu.capabilities().name, "a stand-in");
    let memory = GpuMemory::of(&gpu, b"bytes").expect("memory");
    assert_eq!(memory.read().expect("a copy"), b"bytes");
    let other = Gpu::open(0).expect("a stand-in");
    let stream = Stream::new(&other).expect("a stream");
    let file = super::views::file_of(4096);
    let view = View::new(&gpu, file, 0..4096).expect("a view");
    let refused = view.copy(0..5, &memory, 0, &stream);
    assert_eq!(
        refused.expect_err("two contexts"),
        CudaError::OtherGpu("the memory").into()
    );
    let kernel = Kernel::compile(&gpu, "", "a_kernel").expect("a kernel");
    let config = LaunchConfig::new(1, 32);
    // SAFETY: nothing runs.
    let refused = unsafe { kernel.launch_on(&stream, config, &0_u64, ()) };
    let refused = refused.expect_err("two contexts");
    assert_eq!(refused, CudaError::OtherGpu("the stream"));
    drop((view, stream, other, kernel));
    calls();
    drop((memory, gpu));
    assert_eq!(calls(), ["cuMemFree"]);
}

pub(crate) fn other_context() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let refused = Gpu::current().expect_err("the context is somebody else's");
    assert_eq!(refused, CudaError::NotPrimary);
    // As the CUDA runtime does.
    let mut context = std::ptr::null_mut();
    // SAFETY: the pointer is to a handle that outlives the call.
    let answer = unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, 0) };
    assert_eq!(answer, sys::CUresult::CUDA_SUCCESS);
    // SAFETY: the context was just retained.
    unsafe { set_current(context) }.expect("a context");
    let current = Gpu::current().expect("the primary context");
    assert_eq!(current.capabilities(), gpu.capabilities());
    // SAFETY: a thread may have no context.
    unsafe { set_current(std::ptr::null_mut()) }.expect("none");
    assert_eq!(Gpu::current().expect_err("none"), CudaError::NoContext);
}

/// Aligned memory of the caller's.
#[repr(align(4096))]
struct Pinned([u8; 4096]);

pub(crate) fn lent_memory() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let device = GpuMemory::zeroed(&gpu, 5000).expect("memory");
    let pinned = Arc::new(Pinned([7; 4096]));
    let base = NonNull::from(&pinned.0).cast();
    // SAFETY: the array is there as long as its owner, and nothing else uses it.
    let host = unsafe { MappedMemory::from_raw(&gpu, base, 4096, Arc::clone(&pinned)) };
    let host = host.expect("pinned");
    // SAFETY: the memory is there as long as its owner, and nothing else uses it.
    let memory = unsafe { GpuMemory::from_raw(&gpu, device.device_ptr(), 5000, device.clone()) };
    assert_eq!((memory.len(), host.len()), (5000, 4096));
    let host = host.into_buffer().expect("bytes");
    let landing = LandingBuffer::behind_memory(host.clone(), &memory);
    let mut engine = CopyEngine::new(&gpu, vec![landing]).expect("a stream");
    let place = engine.destination(&host).expect("it has one");
    let past = engine.start(place, 4090, 10);
    assert_eq!(past, Err(MoveError), "past the buffer");
    engine.start(place, 100, 50).expect("inside");
    assert_eq!(engine.close_batch(), Ok(true));
    calls();
    drop((engine, host, memory));
    let calls = calls();
    let freed = count(&calls, "cuMemFree") + count(&calls, "cuMemHostUnregister");
    assert_eq!(freed, 0);
    assert_eq!(Arc::strong_count(&pinned), 1, "the owner is gone");
    let landed = device.read().expect("a copy");
    assert_eq!(landed.iter().filter(|&&byte| byte == 7).count(), 50);
}

pub(crate) fn memory_not_pinned() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let memory = Arc::new(Pinned([7; 4096]));
    let base = NonNull::from(&memory.0).cast();
    // SAFETY: the array is there as long as its owner, and nothing else uses it.
    let refused = unsafe { MappedMemory::from_raw(&gpu, base, 4096, Arc::clone(&memory)) };
    let refused = refused.expect_err("it is not pinned");
    assert!(matches!(refused, CudaError::NotPinned(_)), "{refused}");
    assert_eq!(Arc::strong_count(&memory), 1, "the owner is gone");
}

pub(crate) fn lent_stream() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let kernel = Kernel::compile(&gpu, "", "a_kernel").expect("a kernel");
    let owner = Arc::new(());
    let handle = std::ptr::null_mut::<c_void>();
    // SAFETY: null is the default stream, which is always there.
    let stream = unsafe { Stream::from_raw(&gpu, handle, Arc::clone(&owner)) };
    assert_eq!(stream.as_raw(), handle);
    let keep = Arc::new(());
    let config = LaunchConfig::new(1, 32);
    calls();
    // SAFETY: nothing runs.
    let launch = unsafe { kernel.launch_on(&stream, config, &0_u64, Arc::clone(&keep)) };
    let launch = launch.expect("a launch");
    assert_eq!(count(&calls(), "cuStreamCreate"), 0);
    get_stuck();
    assert_eq!(launch.is_done(), Ok(false));
    assert_eq!(Arc::strong_count(&keep), 2);
    get_on();
    assert_eq!(launch.is_done(), Ok(true));
    drop(stream);
    assert_eq!(Arc::strong_count(&owner), 2, "the launch needs the stream");
    drop(launch);
    assert_eq!(
        (Arc::strong_count(&keep), Arc::strong_count(&owner)),
        (1, 1)
    );
    let calls = calls();
    assert_eq!(count(&calls, "cuEventSynchronize"), 1, "a drop waits");
    assert_eq!(count(&calls, "cuStreamDestroy"), 0);
}
