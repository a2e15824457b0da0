//! Windows of a file that running kernels ask for, and then read by themselves.

mod asks;
mod device;
#[cfg(test)]
mod fake;
mod mapper;
mod pages;
mod streams;
mod transport;

use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use vyre_uring::vyre_mapped::{Errno, MapError, Mapping, Stamp};

pub use device::DeviceWindows;
pub use transport::WindowTransport;

use crate::gpu::Gpu;
use crate::view::{self, DeviceView, ViewError, ViewState};
use asks::Board;
use mapper::Mapper;
use pages::FilePages;

/// The bytes of a window unless a builder says otherwise. Smaller ones cost the driver nearly as much time: some
/// 130 µs.
const WINDOW_BYTES: u64 = 2 << 20;
/// The bytes that one call of the driver pins at most, some 1 ms of work: other requests wait meanwhile.
const CALL_BYTES: u64 = 32 << 20;
/// The bytes that are mapped ahead at most, unless a builder says otherwise.
const READ_AHEAD: u64 = 64 << 20;
/// The sizes of windows.
const SIZES: Range<u64> = 64 << 10..(1 << 30) + 1;

/// The windows of one file. A kernel asks for those that it needs by MAP, through a queue; a thread pins their pages
/// and maps them for kernels, and the kernel reads them by loads from then on, as it would a [`View`](view::View).
/// What is never asked for is not pinned.
///
/// The loop of the queue needs a [`WindowTransport`]. A kernel takes a [`DeviceWindows`], `vyre::windows` in
/// `vyre_windows.cuh`.
///
/// # What the thread does
/// It maps a window of 2 MiB in some 130 µs if the window is in memory, without waiting for running kernels. Windows
/// beside each other that are asked for at the same time are pinned by one call. Where kernels ask for windows in
/// sequence, it maps up to 64 MiB ahead. Windows that are not in memory are read in after those that are.
///
/// # The limit
/// The pinned bytes count with those of all views of the process, and [`view::pin_limit`] bounds them. A
/// [builder](WindowsBuilder::limit) can set a smaller limit. Once a limit is reached, a MAP fails with ENOBUFS, and
/// the kernel goes on by READ. Windows are not unmapped while they are in use, so a kernel never loads from one that
/// is gone.
///
/// # The end
/// A clone names the same windows. After the drop of the last one, or [`close`](Self::close), the thread waits for
/// everything that runs on the GPU, and gives the pages back. So pass a clone to
/// [`Kernel::launch`](crate::Kernel::launch) as something to keep.
#[derive(Clone, Debug)]
pub struct Windows(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    device: DeviceWindows,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The state that loops share with the thread. It owns no memory of kernels, so a loop can drop it at any time.
#[derive(Debug)]
pub(crate) struct Shared {
    board: Arc<Board>,
    mapping: Arc<Mapping>,
    /// The logarithm of the bytes of a window.
    shift: u32,
    /// The file before the first pages were pinned, if a later change shows.
    stamp: Option<Stamp>,
}

/// Counts of what became of the requests for windows. The thread lags behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowCounters {
    /// MAPs of at least one byte.
    pub asked: u64,
    /// MAPs whose windows were all mapped already. The loop answers them.
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

/// Settings of [`Windows`].
#[derive(Clone, Debug)]
#[must_use = "call `build`"]
pub struct WindowsBuilder {
    gpu: Gpu,
    window_bytes: u64,
    read_ahead: u64,
    limit: u64,
}

impl WindowsBuilder {
    /// Sets the bytes of a window: a power of two from 64 KiB to 1 GiB. The default is 2 MiB.
    pub const fn window_bytes(mut self, bytes: u64) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Sets how many bytes are mapped ahead at most where kernels ask in sequence, rounded down to whole windows. The
    /// default is 64 MiB; zero maps nothing ahead.
    pub const fn read_ahead(mut self, bytes: u64) -> Self {
        self.read_ahead = bytes;
        self
    }

    /// Sets how many bytes of the file are pinned at most. By default, [`view::pin_limit`] alone bounds them.
    pub const fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Maps the file into this process, which pins nothing, allocates the tables of its windows, 8 bytes a window,
    /// and starts the thread. The windows reach to the present end of the file.
    ///
    /// # Errors
    /// - [`ViewError::WindowBytes`] for another size of windows.
    /// - [`ViewError::Unsupported`] or [`ViewError::OtherAddresses`] if the GPU cannot have windows.
    /// - [`ViewError::Map`] or [`ViewError::PastEnd`] if the file cannot be mapped, or is empty.
    /// - [`ViewError::Cuda`] if there is no memory for the tables, [`ViewError::NoThread`] if there is no thread.
    pub fn build(&self, file: impl AsFd) -> Result<Windows, ViewError> {
        let capabilities = self.gpu.capabilities();
        let name = || capabilities.name.clone();
        if !self.window_bytes.is_power_of_two()
            || !SIZES.contains(&self.window_bytes)
            || self.window_bytes < Mapping::page_size()
        {
            return Err(ViewError::WindowBytes(self.window_bytes));
        }
        if !capabilities.pins_read_only {
            return Err(ViewError::Unsupported(name()));
        }
        if !capabilities.uses_host_pointers {
            return Err(ViewError::OtherAddresses(name()));
        }
        let mapping = view::map(file, &(0..u64::MAX))?;
        let stamp = mapping.stamp().map_err(MapError::Query)?;
        let bytes = mapping.range().end;
        let shift = self.window_bytes.trailing_zeros();
        let count = u32::try_from(bytes.div_ceil(self.window_bytes));
        let count = count.map_err(|_| MapError::RangeTooLong)?;
        let (pages, tables) =
            FilePages::new(&self.gpu, Arc::clone(&mapping), (shift, count), self.limit)?;
        let device = DeviceWindows {
            file: DeviceView::new(mapping.as_ptr() as u64, bytes),
            mapped: tables.mapped,
            states: tables.states,
            shift,
            padding: 0,
        };
        let board = Arc::new(Board::new(count));
        let shared = Arc::new(Shared {
            board: Arc::clone(&board),
            mapping,
            shift,
            stamp: stamp.is_settled().then_some(stamp),
        });
        let of = |bytes: u64| u32::try_from(bytes >> shift).unwrap_or(u32::MAX);
        let mut mapper = Mapper::new(board, pages, of(CALL_BYTES), of(self.read_ahead));
        let thread = thread::Builder::new().name("vyre-windows".to_owned());
        let thread = thread.spawn(move || mapper.run());
        let thread = thread.map_err(|error| ViewError::NoThread(error.to_string()))?;
        Ok(Windows(Arc::new(Handle {
            shared,
            device,
            thread: Mutex::new(Some(thread)),
        })))
    }
}

impl Windows {
    /// Returns a builder of windows for kernels of this GPU.
    pub fn builder(gpu: &Gpu) -> WindowsBuilder {
        WindowsBuilder {
            gpu: gpu.clone(),
            window_bytes: WINDOW_BYTES,
            read_ahead: READ_AHEAD,
            limit: u64::MAX,
        }
    }

    /// Returns what kernels need. It is valid until [`close`](Self::close) or the drop of the last clone.
    pub fn device(&self) -> DeviceWindows {
        self.0.device
    }

    /// Returns the number of bytes of the file, up to which the windows reach.
    pub fn len(&self) -> u64 {
        self.0.device.len()
    }

    /// Returns `false`: a file without bytes has no windows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the counts.
    pub fn counters(&self) -> WindowCounters {
        let counts = &self.0.shared.board.counts;
        // Relaxed: a count guards no other memory.
        let of = |count: &AtomicU64| count.load(Relaxed);
        WindowCounters {
            asked: of(&counts.asked),
            hits: of(&counts.hits),
            mapped: of(&counts.mapped),
            ahead: of(&counts.ahead),
            calls: of(&counts.calls),
            refused: of(&counts.refused),
            failed: of(&counts.failed),
        }
    }

    /// Finds out whether the mapped windows still show the file, as [`View::check`](view::View::check) does.
    ///
    /// # Errors
    /// The same as for [`View::check`](view::View::check).
    pub fn check(&self) -> Result<ViewState, Errno> {
        let shared = &self.0.shared;
        let range = shared.mapping.range();
        let parts = shared.mapped_parts();
        view::state_of(&shared.mapping, shared.stamp, range.end, parts)
    }

    /// Ends the thread, which waits for everything that runs on the GPU and gives the pages back, and waits for it.
    /// Every MAP then fails with EOPNOTSUPP, also those that wait now. Does nothing more on a second call.
    ///
    /// Call it after the kernels have ended, and not on a thread for which one waits.
    pub fn close(&self) {
        self.0.shared.board.close();
        let thread = self.0.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // If it panicked, its memory is given back all the same.
            let _ = thread.join();
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl Shared {
    /// Returns whether a descriptor is one of the file.
    fn is_of(&self, file: &OwnedFd) -> bool {
        self.mapping.is_of(file) == Ok(true)
    }

    /// Returns the windows of a part of the file, or `None` if it begins past the last one.
    fn windows_of(&self, offset: u64, len: u32) -> Option<Range<u32>> {
        let end = self.mapping.range().end;
        if offset >= end {
            return None;
        }
        let last = offset
            .saturating_add(u64::from(len).max(1) - 1)
            .min(end - 1);
        let number = |offset: u64| u32::try_from(offset >> self.shift).ok();
        Some(number(offset)?..number(last)? + 1)
    }

    /// Returns the parts of the file whose windows are mapped.
    fn mapped_parts(&self) -> impl Iterator<Item = Range<u64>> {
        let end = self.mapping.range().end;
        let mapped = (0..self.board.count).filter(|&window| self.board.is_mapped(window));
        mapped.map(move |window| {
            let start = u64::from(window) << self.shift;
            start..end.min(start + (1 << self.shift))
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.board.close();
    }
}

impl fmt::Display for WindowCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MAPs, {} of them hits; {} windows mapped by {} calls, {} of them ahead; {} refused, {} failed",
            self.asked, self.hits, self.mapped, self.calls, self.ahead, self.refused, self.failed
        )
    }
}
