//! Files that kernels map for themselves, part by part, while they run.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::c_int;
use std::mem::MaybeUninit;

use vyre_io::cuda::view::ViewState;
use vyre_io::cuda::windows;

use crate::code::Code;
use crate::error::{Error, Place, free, given, guard};
use crate::failure::Failure;
use crate::gpu::Gpu;
use crate::memory::{self, store_sized};
use crate::view::State;

/// The windows of one file. A kernel asks for those that it needs by MAP, through a queue of a loop that was built with them;
/// a thread pins their pages, and the kernel reads them by loads from then on. What is never asked for is not pinned.
///
/// Threads: all functions may be called from several threads at once, but none beside or after vyre_io_windows_free.
pub struct Windows(pub(crate) windows::Windows);

/// Addresses of windows and their tables for kernels: the layout of vyre_ioq::Windows, in vyre_windows.cuh. It keeps nothing.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct DeviceWindows {
    /// Address of the file's first byte.
    pub base: u64,
    /// Number of bytes of the file.
    pub len: u64,
    /// Address of the host's table.
    pub mapped: u64,
    /// Address of the kernels' own table.
    pub states: u64,
    /// The logarithm of the bytes of a window.
    pub shift: u32,
    /// 0.
    pub padding: u32,
}

/// Counts of what became of the requests for windows. Later versions add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WindowCounters {
    /// MAPs of at least one byte.
    pub asked: u64,
    /// MAPs whose windows were all mapped already.
    pub hits: u64,
    /// Windows that were mapped.
    pub mapped: u64,
    /// Windows among them that were mapped before a kernel asked for them.
    pub ahead: u64,
    /// Calls of the driver by which they were mapped.
    pub calls: u64,
    /// Attempts to map for which a limit left no room.
    pub refused: u64,
    /// Attempts to map that failed for another reason.
    pub failed: u64,
}

/// Makes windows of a file, up to its present end, and starts their thread. Nothing is pinned yet.
///
/// @param fd           A descriptor of a regular file on a local file system, open for reading. The files of the loop must
///                     include it: kernels name it by its handle.
/// @param window_bytes The bytes of a window, a power of two from 64 KiB to 1 GiB, or 0 for 2 MiB.
/// @param read_ahead   The bytes that are mapped ahead at most where kernels ask in sequence; 0 maps nothing ahead. 64 MiB is a
///                     good choice.
/// @param limit        The bytes of the file that are pinned at most, or UINT64_MAX. Beyond it MAP fails with ENOBUFS, and the
///                     kernel goes on by READ. vyre_io_pin_limit bounds them in any case.
/// @param[out] windows The windows, or NULL after an error. Free them with vyre_io_windows_free.
/// @return DESCRIPTOR, BAD_ARGUMENT, NOT_MAPPABLE, PAST_END, GPU_UNFIT, THREAD or DRIVER after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_windows_new(
    gpu: Option<&Gpu>,
    fd: c_int,
    window_bytes: u64,
    read_ahead: u64,
    limit: u64,
    windows: Option<&mut MaybeUninit<Option<Box<Windows>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(windows, "windows")?;
        let (gpu, file) = (given(gpu, "gpu")?, memory::duplicate(fd)?);
        let builder = windows::Windows::builder(&gpu.0);
        let builder = builder.read_ahead(read_ahead).limit(limit);
        let builder = match window_bytes {
            0 => builder,
            bytes => builder.window_bytes(bytes),
        };
        place.put(Windows(builder.build(file)?));
        Ok(())
    })
}

/// Stores what kernels need. It is valid until the windows are closed or freed.
///
/// @param[out] device Zero after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_windows_device(
    windows: Option<&Windows>,
    device: Option<&mut MaybeUninit<DeviceWindows>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let device = given(device, "device")?.write(bytemuck::Zeroable::zeroed());
        *device = bytemuck::cast(given(windows, "windows")?.0.device());
        Ok(())
    })
}

/// Stores the counts. The thread lags behind.
///
/// @param[out] counters A struct vyre_io_window_counters.
/// @param      size     Its sizeof.
///
/// # Safety
/// `counters` has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_windows_counters(
    windows: Option<&Windows>,
    counters: *mut WindowCounters,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let found = given(windows, "windows")?.0.counters();
        let stored = WindowCounters {
            asked: found.asked,
            hits: found.hits,
            mapped: found.mapped,
            ahead: found.ahead,
            calls: found.calls,
            refused: found.refused,
            failed: found.failed,
        };
        // SAFETY: the caller's promises. The struct has no padding.
        unsafe { store_sized(&stored, counters, size) }
    })
}

/// Finds out whether the mapped windows still show the file.
///
/// @return EXAMINE after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_windows_check(
    windows: Option<&Windows>,
    state: Option<&mut MaybeUninit<State>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let state = given(state, "state")?.write(State::of(ViewState::Current));
        let found = given(windows, "windows")?.0.check();
        *state = State::of(found.map_err(Failure::check)?);
        Ok(())
    })
}

/// Gives the pages back: waits for everything that runs on the GPU. Every MAP then fails with EOPNOTSUPP, also those that wait
/// now. Call it after the kernels have ended, and not on a thread for which one waits. A second call does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_windows_close(
    windows: Option<&Windows>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        given(windows, "windows")?.0.close();
        Ok(())
    })
}

/// Frees the object. Loops that were built with the windows keep them. After the last one, their thread gives the pages back,
/// which waits for the kernels that run. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_windows_free(windows: Option<Box<Windows>>) {
    free(windows);
}
