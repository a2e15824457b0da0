//! Files whose pages kernels read by themselves.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use vyre_io::cuda::view::{self, LoadOptions, LoadWay, ViewState};

use crate::code::Code;
use crate::error::{Error, Place, answer, free, given, guard};
use crate::failure::Failure;
use crate::gpu::Gpu;
use crate::memory;

/// A range of a file whose pages are pinned in the page cache, and mapped read-only for kernels. A kernel loads the bytes over
/// the bus, without a request and without a thread. It must not write to them: that is a fault, which ends its context.
///
/// Others' writes through the page cache show at once. After a truncation, a punched hole or a write past the page cache,
/// the view shows what was there before: see vyre_io_view_check.
///
/// Threads: all functions may be called from several threads at once, but none beside or after vyre_io_view_free.
pub struct View(pub(crate) view::View);

/// A view whose pages a thread reads in.
///
/// Threads: all functions may be called from several threads at once, but none beside or after vyre_io_preparing_free or
/// vyre_io_preparing_pin.
pub struct Preparing(view::Preparing);

/// A copy of a part of a view that was started on a stream. It keeps the view.
///
/// Threads: all functions may be called from several threads at once, but none beside or after vyre_io_view_copy_free.
pub struct ViewCopy(view::ViewCopy);

/// Address and length of a view for kernels: the layout of vyre::view, in vyre_view.cuh. It does not keep the pages pinned.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DeviceView {
    /// Address of the first byte for kernels.
    pub base: u64,
    /// Number of bytes up to the end of the view.
    pub len: u64,
}

/// Result of a check of a view or of windows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewCondition {
    /// The view shows the file.
    Current = 0,
    /// The file ends before the view does. The view shows what was there before.
    Shorter = 1,
    /// A page may have left the file. Make a new view.
    Detached = 2,
    /// Something else, which this version of the library has no number for. Make a new view.
    Changed = 3,
}

/// The state of a view or of windows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct State {
    /// Condition of the view.
    pub condition: ViewCondition,
    /// 0.
    pub reserved: u32,
    /// With SHORTER, the size of the file in bytes; with DETACHED, the offset in the file of the first page that may have left
    /// it; else 0.
    pub at: u64,
}

impl State {
    pub(crate) const fn of(state: ViewState) -> Self {
        let (condition, at) = match state {
            ViewState::Current => (ViewCondition::Current, 0),
            ViewState::Shorter { size } => (ViewCondition::Shorter, size),
            ViewState::Detached { offset } => (ViewCondition::Detached, offset),
            _ => (ViewCondition::Changed, 0),
        };
        Self {
            condition,
            reserved: 0,
            at,
        }
    }
}

/// Means by which vyre_io_view_load brings bytes to memory of the GPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The faster of the other two.
    Auto = 0,
    /// The file's pages are pinned piece by piece, and the copy engine copies them.
    Pinned = 1,
    /// Threads read the file into pinned memory, and the copy engine copies from there. It works for every file that can be
    /// read.
    Staging = 2,
}

/// Pins a range of a file. The driver reads in the pages that are not in memory, while this call waits; see
/// vyre_io_view_prepare. The call does not wait for running kernels.
///
/// @param fd    A descriptor of a regular file on a local file system, open for reading.
/// @param start The first byte, at the start of a page.
/// @param end   The end, at the start of a page, or VYRE_IO_TO_THE_END. The view ends with the file if that is earlier.
/// @param[out] view The view, or NULL after an error. Free it with vyre_io_view_free.
/// @return DESCRIPTOR, NOT_MAPPABLE, NOT_PAGES, PAST_END, GPU_UNFIT, PIN_LIMIT, PIN_REFUSED or DRIVER after an error: read the
///         file through a queue instead.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_new(
    gpu: Option<&Gpu>,
    fd: c_int,
    start: u64,
    end: u64,
    view: Option<&mut MaybeUninit<Option<Box<View>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(view, "view")?;
        let (gpu, file) = (given(gpu, "gpu")?, memory::duplicate(fd)?);
        place.put(View(view::View::new(&gpu.0, file, start..end)?));
        Ok(())
    })
}

/// Has a thread read a range of a file into the page cache, so that pinning it takes little time. The range is that of
/// vyre_io_view_new.
///
/// @param[out] preparing The view to be, or NULL after an error. Give it to vyre_io_preparing_pin, or free it with
///                       vyre_io_preparing_free.
/// @return DESCRIPTOR, NOT_MAPPABLE, NOT_PAGES, PAST_END or THREAD after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_prepare(
    fd: c_int,
    start: u64,
    end: u64,
    preparing: Option<&mut MaybeUninit<Option<Box<Preparing>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(preparing, "preparing")?;
        let file = memory::duplicate(fd)?;
        place.put(Preparing(view::View::prepare(file, start..end)?));
        Ok(())
    })
}

/// Returns the number of bytes of the range, or 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_preparing_bytes(preparing: Option<&Preparing>) -> u64 {
    answer(0, || Some(preparing?.0.len()))
}

/// Returns how many bytes of the range are in memory, or 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_preparing_done(preparing: Option<&Preparing>) -> u64 {
    answer(0, || Some(preparing?.0.done()))
}

/// Returns whether vyre_io_preparing_pin does not have to wait for the thread. True for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_preparing_is_ready(preparing: Option<&Preparing>) -> bool {
    answer(true, || Some(preparing?.0.is_ready()))
}

/// Has the thread end after the 16 MiB that it reads now. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_preparing_cancel(preparing: Option<&Preparing>) {
    answer((), || {
        preparing?.0.cancel();
        Some(())
    });
}

/// Waits for the thread, pins the range, and frees `preparing` in any case.
///
/// @param[out] view The view, or NULL after an error. Free it with vyre_io_view_free.
/// @return As for vyre_io_view_new, CANCELLED, or POPULATE if the kernel could not read a page.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_preparing_pin(
    preparing: Option<Box<Preparing>>,
    gpu: Option<&Gpu>,
    view: Option<&mut MaybeUninit<Option<Box<View>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(view, "view")?;
        let (preparing, gpu) = (given(preparing, "preparing")?, given(gpu, "gpu")?);
        place.put(View(preparing.0.pin(&gpu.0)?));
        Ok(())
    })
}

/// Frees the object, and cancels the thread without waiting for it. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_preparing_free(preparing: Option<Box<Preparing>>) {
    free(preparing);
}

/// Stores what kernels of a GPU need to read the bytes. It may be another GPU than that for which the view was made.
///
/// @param[out] device Zero after an error.
/// @return DRIVER after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_device(
    view: Option<&View>,
    gpu: Option<&Gpu>,
    device: Option<&mut MaybeUninit<DeviceView>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let device = given(device, "device")?.write(DeviceView { base: 0, len: 0 });
        let (view, gpu) = (given(view, "view")?, given(gpu, "gpu")?);
        let found = view.0.device_view(&gpu.0)?;
        (device.base, device.len) = (found.device_ptr(), found.len());
        Ok(())
    })
}

/// Returns the offset in the file of the view's first byte, or 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_start(view: Option<&View>) -> u64 {
    answer(0, || Some(view?.0.range().start))
}

/// Returns the number of bytes of the view, or 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_bytes(view: Option<&View>) -> u64 {
    answer(0, || Some(view?.0.len()))
}

/// Finds out whether the view still shows the file. Costs one system call if the file has not changed since, and else some
/// 2 ms for 1 GiB.
///
/// @return EXAMINE after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_check(
    view: Option<&View>,
    state: Option<&mut MaybeUninit<State>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let state = given(state, "state")?.write(State::of(ViewState::Current));
        let found = given(view, "view")?.0.check().map_err(Failure::check)?;
        *state = State::of(found);
        Ok(())
    })
}

/// Has the copy engine copy a part of the file to memory of a GPU, after what was started on the stream before. What is
/// started on the stream later finds the bytes there.
///
/// @param start  The first byte of the file. It must be inside the view, and so must the last.
/// @param to     A CUdeviceptr, or what cudaMalloc stored: memory with room for the bytes, which stays until the copy is freed.
/// @param stream A CUstream or cudaStream_t of the GPU's context, which exists until the copy is freed. NULL is the default
///               stream.
/// @param[out] copy The copy, or NULL after an error. Free it with vyre_io_view_copy_free.
/// @return OUT_OF_RANGE or DRIVER after an error.
///
/// # Safety
/// `to` and `stream` are as said above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_view_copy_to(
    view: Option<&View>,
    gpu: Option<&Gpu>,
    start: u64,
    end: u64,
    to: u64,
    stream: *mut c_void,
    copy: Option<&mut MaybeUninit<Option<Box<ViewCopy>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(copy, "copy")?;
        let (view, gpu) = (given(view, "view")?, given(gpu, "gpu")?);
        let len = length(start, end)?;
        // SAFETY: the caller's promises.
        let to = unsafe { memory::of_gpu(&gpu.0, to, len) }?;
        // SAFETY: the caller's promises.
        let stream = unsafe { memory::stream_of(&gpu.0, stream) };
        place.put(ViewCopy(view.0.copy(start..end, &to, 0, &stream)?));
        Ok(())
    })
}

fn length(start: u64, end: u64) -> Result<usize, Failure> {
    let length = end.checked_sub(start).map(usize::try_from);
    let reversed = || Failure::argument(format!("bytes {start} to {end} are no range"));
    length.and_then(Result::ok).ok_or_else(reversed)
}

/// Stores whether the copy has ended.
///
/// @return DRIVER if the copy, or what came before it on the stream, failed.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_copy_is_done(
    copy: Option<&ViewCopy>,
    done: Option<&mut MaybeUninit<bool>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let done = given(done, "done")?.write(false);
        *done = given(copy, "copy")?.0.is_done()?;
        Ok(())
    })
}

/// Waits until the copy has ended.
///
/// @return DRIVER if the copy, or what came before it on the stream, failed.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_copy_wait(
    copy: Option<&ViewCopy>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        given(copy, "copy")?.0.wait()?;
        Ok(())
    })
}

/// Waits until the copy has ended, and frees the object. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_copy_free(copy: Option<Box<ViewCopy>>) {
    free(copy);
}

/// Copies a range of a file to memory of a GPU, and returns once every byte is there. It is made for files in the page cache,
/// and needs no view.
///
/// @param to  A CUdeviceptr, or what cudaMalloc stored: memory with room for the bytes.
/// @param way AUTO, or the way to take.
/// @return DESCRIPTOR, NOT_MAPPABLE, READ_FAILED, GPU_UNFIT, PIN_LIMIT, PIN_REFUSED or DRIVER after an error.
///
/// # Safety
/// `to` is as said above until the function returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_view_load(
    gpu: Option<&Gpu>,
    fd: c_int,
    start: u64,
    end: u64,
    to: u64,
    way: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (gpu, file) = (given(gpu, "gpu")?, memory::duplicate(fd)?);
        let mut options = LoadOptions::default();
        options.way = match way {
            0 => None,
            1 => Some(LoadWay::Pinned),
            2 => Some(LoadWay::Staging),
            _ => return Err(Failure::argument(format!("{way} is no vyre_io_way"))),
        };
        let len = length(start, end)?;
        // SAFETY: the caller's promises.
        let to = unsafe { memory::of_gpu(&gpu.0, to, len) }?;
        view::load(&gpu.0, file, start..end, &to, 0, options)?;
        Ok(())
    })
}

/// Frees the object. Waits for everything that runs on the GPUs for which the view was used, and gives the pages back, unless
/// a copy or a launch of the library still keeps them. So do not call it on a thread for which a running kernel waits. Does
/// nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_view_free(view: Option<Box<View>>) {
    free(view);
}

/// Returns the number of bytes of files that views and windows of this process have pinned.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_pinned_bytes() -> u64 {
    answer(0, || Some(view::pinned_bytes()))
}

/// Returns the limit of vyre_io_pinned_bytes: half of the machine's memory, unless vyre_io_set_pin_limit set another one.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_pin_limit() -> u64 {
    answer(0, || Some(view::pin_limit()))
}

/// Sets the limit of vyre_io_pinned_bytes in this process. What is pinned already stays pinned.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_set_pin_limit(bytes: u64) {
    answer((), || {
        view::set_pin_limit(bytes);
        Some(())
    });
}
