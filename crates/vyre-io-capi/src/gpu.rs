//! GPUs whose kernels read files by themselves.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::c_void;
use std::mem::MaybeUninit;

use crate::code::Code;
use crate::error::{Error, Place, free, guard};
use crate::memory;

/// An NVIDIA GPU and a context of it, for views and windows. The library loads CUDA's driver when the first one is opened;
/// without it, everything else works.
///
/// Threads: all functions may be called from several threads at once, but none beside or after vyre_io_gpu_free.
pub struct Gpu(pub(crate) vyre_io::cuda::Gpu);

/// Opens a GPU and its primary context, which the CUDA runtime uses. GPUs are numbered from 0; CUDA_VISIBLE_DEVICES chooses
/// them.
///
/// @param[out] gpu The GPU, or NULL after an error. Free it with vyre_io_gpu_free.
/// @return NO_DRIVER, NO_DEVICE, GPU_UNFIT or DRIVER after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_gpu_open(
    ordinal: u32,
    gpu: Option<&mut MaybeUninit<Option<Box<Gpu>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(gpu, "gpu")?;
        place.put(Gpu(vyre_io::cuda::Gpu::open(ordinal)?));
        Ok(())
    })
}

/// Opens the GPU of the calling thread's current context, as the CUDA runtime leaves it.
///
/// @param[out] gpu The GPU, or NULL after an error. Free it with vyre_io_gpu_free.
/// @return As for vyre_io_gpu_open, or NO_CONTEXT if the thread has no current context, or one that is not primary: see
///         vyre_io_gpu_from_context.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_gpu_current(
    gpu: Option<&mut MaybeUninit<Option<Box<Gpu>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(gpu, "gpu")?;
        place.put(Gpu(vyre_io::cuda::Gpu::current()?));
        Ok(())
    })
}

/// Takes a context that the program made.
///
/// @param context A CUcontext. It must exist until the GPU, and the views and windows that were made with it, are freed.
/// @param[out] gpu The GPU, or NULL after an error. Free it with vyre_io_gpu_free.
/// @return As for vyre_io_gpu_open.
///
/// # Safety
/// The context exists for as long as was said above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_gpu_from_context(
    context: *mut c_void,
    gpu: Option<&mut MaybeUninit<Option<Box<Gpu>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(gpu, "gpu")?;
        // SAFETY: the caller's promise.
        place.put(Gpu(unsafe { memory::gpu_of(context) }?));
        Ok(())
    })
}

/// Frees the object. Views and windows keep what they need of it. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_gpu_free(gpu: Option<Box<Gpu>>) {
    free(gpu);
}
