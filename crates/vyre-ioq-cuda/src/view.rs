//! Files whose pages kernels read out of the page cache by themselves, over the bus, without a request.

mod copy;
mod device;
mod error;
mod left;
mod load;
mod preparing;
mod rows;

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use vyre_uring::vyre_mapped::{Errno, MapError, Mapping, Stamp};

pub use copy::ViewCopy;
pub use device::DeviceView;
pub use error::ViewError;
pub use load::{LoadOptions, LoadWay, load};
pub use preparing::Preparing;
pub use rows::{RowGather, Rows};

use crate::driver::{PagePin, PinBudget};
use crate::gpu::Gpu;

/// A range of a file whose pages are pinned in the page cache, and mapped read-only for kernels.
///
/// Kernels load the bytes over the bus; nothing serves them meanwhile. What others write through the page
/// cache shows at once. A kernel that writes to a view faults, which ends its context.
///
/// A clone names the same pages. The drop of the last one waits for everything that runs on the GPU that pinned
/// them and on those for which [`device_view`](Self::device_view) or [`copy`](Self::copy) was called, and then
/// gives the pages back. So pass a clone to
/// [`Kernel::launch`](crate::Kernel::launch) as something to keep, and never let the last one be dropped by a
/// thread for which a running kernel waits.
#[derive(Clone, Debug)]
pub struct View(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pages: Arc<PagePin>,
    mapping: Arc<Mapping>,
    /// The range of the file: its end is that of the file, if that comes before the last page's.
    range: Range<u64>,
    /// The file before the pages were pinned, if a later change shows.
    stamp: Option<Stamp>,
}

/// A [`View`] and its file, as [`View::check`] found them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewState {
    /// The view shows the file.
    Current,
    /// The file ends before the view does. The view shows what was there before.
    Shorter {
        /// The size of the file in bytes.
        size: u64,
    },
    /// The page at this offset of the file, and perhaps later ones, may have left the file: by a truncation
    /// after which the file grew again, by a hole that was punched, or by a write past the page cache. Where
    /// memory was short, the kernel may also have unmapped a page that is still the file's. Make a new view.
    Detached {
        /// The offset in bytes.
        offset: u64,
    },
}

impl View {
    /// Pins a range of a file. It begins at a page. It ends with the file, or where the file ends if that
    /// is earlier, or at a page.
    ///
    /// The driver reads in the pages that are not in memory, while this call waits. The call does not wait
    /// for running kernels, but takes long: some 25 ms for 1 GiB that is in memory.
    ///
    /// # Errors
    /// A [`ViewError`] that names the reason: the file is not of a kind that is mapped; the range has no
    /// bytes, or does not consist of whole pages; the GPU cannot pin read-only pages; more would be pinned
    /// than [`pin_limit`] allows; or the driver refuses.
    pub fn new(gpu: &Gpu, file: impl AsFd, range: Range<u64>) -> Result<Self, ViewError> {
        Self::pin(gpu, map(file, &range)?)
    }

    /// Maps a range of a file, and has a thread read it in. The range is as for [`new`](Self::new).
    ///
    /// # Errors
    /// A [`ViewError`] if the file or the range is not one that can be mapped.
    pub fn prepare(file: impl AsFd, range: Range<u64>) -> Result<Preparing, ViewError> {
        Preparing::start(map(file, &range)?)
    }

    /// Pins all pages of a mapping.
    fn pin(gpu: &Gpu, mapping: Arc<Mapping>) -> Result<Self, ViewError> {
        // Before the pages are pinned: a change in between shows, too.
        let stamp = mapping.stamp().map_err(MapError::Query)?;
        let pages = PagePin::new(gpu, Arc::clone(&mapping), mapping.page_range())?;
        Ok(Self(Arc::new(Shared {
            pages: Arc::new(pages),
            range: mapping.range(),
            mapping,
            stamp: stamp.is_settled().then_some(stamp),
        })))
    }

    /// Returns the range of the file, in bytes.
    pub fn range(&self) -> Range<u64> {
        self.0.range.clone()
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> u64 {
        self.0.range.end - self.0.range.start
    }

    /// Returns `false`: a view has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds out whether the view still shows the file. Costs a system call if the file has not changed since,
    /// and else takes some 2 ms for 1 GiB.
    ///
    /// Writes through the page cache show in a view, which stays current. The answer may be out of date as
    /// soon as it is there: whoever shares a file with others needs an agreement with them.
    ///
    /// # Errors
    /// The errno of fstat(2), or of open(2) or read(2) of `/proc/self/pagemap`.
    pub fn check(&self) -> Result<ViewState, Errno> {
        let Shared { mapping, range, .. } = &*self.0;
        state_of(mapping, self.0.stamp, range.end, [range.clone()])
    }

    /// Returns whether the file is known to be as it was when the view was made.
    pub(crate) fn is_unchanged(&self) -> bool {
        let stamp = self.0.mapping.stamp().ok();
        stamp.is_some() && stamp == self.0.stamp
    }

    /// Returns whether a descriptor is one of the view's file.
    pub(crate) fn is_of(&self, file: &OwnedFd) -> bool {
        self.0.mapping.is_of(file) == Ok(true)
    }

    pub(crate) fn pages(&self) -> &Arc<PagePin> {
        &self.0.pages
    }

    /// Returns what kernels of this GPU need to read the bytes. The GPU may be another one than that for
    /// which the view was made.
    ///
    /// # Errors
    /// [`ViewError::Cuda`] if the driver refuses the call.
    pub fn device_view(&self, gpu: &Gpu) -> Result<DeviceView, ViewError> {
        let base = self.0.pages.device_ptr(gpu)?;
        Ok(DeviceView::new(base, self.len()))
    }
}

/// Finds out whether the pinned parts of a mapping still show the file, which had at least `end` bytes, and this
/// stamp before they were pinned.
///
/// # Errors
/// The same as for [`View::check`].
pub(crate) fn state_of(
    mapping: &Mapping,
    before: Option<Stamp>,
    end: u64,
    parts: impl IntoIterator<Item = Range<u64>>,
) -> Result<ViewState, Errno> {
    let stamp = mapping.stamp()?;
    if stamp.size() < end {
        let size = stamp.size();
        return Ok(ViewState::Shorter { size });
    }
    if before == Some(stamp) {
        return Ok(ViewState::Current);
    }
    for part in parts {
        if let Some(offset) = mapping.first_unmapped(part)? {
            return Ok(ViewState::Detached { offset });
        }
    }
    Ok(ViewState::Current)
}

/// Maps a range of a file, which ends with the file if that is earlier.
pub(crate) fn map(file: impl AsFd, range: &Range<u64>) -> Result<Arc<Mapping>, ViewError> {
    if range.is_empty() {
        return Err(MapError::EmptyRange.into());
    }
    // The first byte alone is mapped, to learn the size of a file of which nothing is known yet.
    let end = range.start.saturating_add(1);
    let first = Mapping::new(&file, range.start..end)?;
    let size = first.file_size().map_err(MapError::Query)?;
    Ok(Arc::new(Mapping::new(file, clip(range, size)?)?))
}

/// Returns a range that ends where a file of this size ends, if it is one of whole pages otherwise.
fn clip(range: &Range<u64>, size: u64) -> Result<Range<u64>, ViewError> {
    let page = Mapping::page_size();
    let end = range.end.min(size);
    if end <= range.start {
        return Err(ViewError::PastEnd { size });
    }
    if !range.start.is_multiple_of(page) || (end < size && !end.is_multiple_of(page)) {
        return Err(ViewError::NotPages);
    }
    Ok(range.start..end)
}

/// Returns the number of bytes of files that are pinned for kernels. A page that is pinned twice counts
/// twice.
pub fn pinned_bytes() -> u64 {
    PinBudget::global().pinned()
}

/// Returns the limit of [`pinned_bytes`]. It is half of the machine's memory unless
/// [`set_pin_limit`] has set another one.
pub fn pin_limit() -> u64 {
    PinBudget::global().limit()
}

/// Sets the limit of [`pinned_bytes`] in this process. What is pinned already stays pinned.
///
/// Pinned pages cannot be evicted or swapped out, so a limit near the size of the memory takes memory
/// from everybody else.
pub fn set_pin_limit(bytes: u64) {
    PinBudget::global().set_limit(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_with_the_file_or_at_a_page() {
        let page = Mapping::page_size();
        let size = 3 * page + 5;
        assert_eq!(clip(&(0..u64::MAX), size), Ok(0..size));
        assert_eq!(clip(&(page..2 * page), size), Ok(page..2 * page));
        assert_eq!(clip(&(3 * page..size), size), Ok(3 * page..size));
        for range in [0..1, 1..page, 0..3 * page + 4] {
            assert_eq!(clip(&range, size), Err(ViewError::NotPages), "{range:?}");
        }
        assert_eq!(
            clip(&(4 * page..5 * page), size),
            Err(ViewError::PastEnd { size })
        );
        assert_eq!(clip(&(0..1), 0), Err(ViewError::PastEnd { size: 0 }));
    }
}
