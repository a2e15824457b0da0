//! Files as arrays of a GPU or of the host, without a copy.

use std::fs::File;
use std::sync::Arc;

use vyre_io::cuda::view::{self, View, ViewError, ViewState};
use vyre_io::cuda::{Gpu, GpuMemory};
use vyre_io::mapped::{Errno, MapError, Mapping};

use crate::given_back::GivenBack;

/// Pages of a file, or memory that it was copied to, which arrays point to.
#[derive(Clone, Debug)]
pub(crate) enum Pages {
    Pinned(Arc<GivenBack<View>>),
    Host(Arc<Mapping>),
    Copied(#[expect(dead_code, reason = "it keeps the memory")] Arc<GivenBack<GpuMemory>>),
}

/// A part of a file for arrays.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    pub(crate) pages: Pages,
    /// The address of the part's first byte, for the device.
    pub(crate) address: u64,
    /// The number of the GPU, or `None` for the host.
    pub(crate) gpu: Option<u32>,
    /// The bytes that are pinned.
    pub(crate) pinned: u64,
}

impl FilePart {
    /// Pins `len` bytes from `offset` on, and the rest of their pages, for a GPU.
    pub(crate) fn pinned(
        file: &File,
        offset: u64,
        len: u64,
        ordinal: u32,
    ) -> Result<Self, ViewError> {
        let gpu = Gpu::open(ordinal)?;
        let page = Mapping::page_size();
        let first = offset - offset % page;
        let end = offset.saturating_add(len);
        let view = View::new(&gpu, file, first..end.next_multiple_of(page))?;
        if view.range().end < end {
            let size = view.range().end;
            return Err(ViewError::PastEnd { size });
        }
        Ok(Self {
            address: view.device_view(&gpu)?.device_ptr() + (offset - first),
            gpu: Some(ordinal),
            pinned: view.len().next_multiple_of(page),
            pages: Pages::Pinned(Arc::new(GivenBack::new(view))),
        })
    }

    /// Maps `len` bytes from `offset` on.
    pub(crate) fn mapped(file: &File, offset: u64, len: u64) -> Result<Self, ViewError> {
        let end = offset.saturating_add(len);
        let mapping = Mapping::new(file, offset..end)?;
        let size = mapping.file_size().map_err(MapError::Query)?;
        if size < end {
            return Err(ViewError::PastEnd { size });
        }
        let before = offset - mapping.page_range().start;
        Ok(Self {
            address: mapping.as_ptr().addr() as u64 + before,
            gpu: None,
            pinned: 0,
            pages: Pages::Host(Arc::new(mapping)),
        })
    }

    /// Copies `len` bytes from `offset` on to memory of a GPU.
    pub(crate) fn copied(
        file: &File,
        offset: u64,
        len: u64,
        ordinal: u32,
    ) -> Result<Self, ViewError> {
        let size = rustix::fs::fstat(file).map_err(MapError::Query)?.st_size;
        let size = u64::try_from(size).unwrap_or_default();
        if size < offset.saturating_add(len) {
            return Err(ViewError::PastEnd { size });
        }
        let gpu = Gpu::open(ordinal)?;
        let memory = GpuMemory::uninit(&gpu, usize::try_from(len).unwrap_or(usize::MAX))?;
        let options = view::LoadOptions::default();
        view::load(&gpu, file, offset..offset + len, &memory, 0, options)?;
        Ok(Self {
            address: memory.device_ptr(),
            gpu: Some(ordinal),
            pinned: 0,
            pages: Pages::Copied(Arc::new(GivenBack::new(memory))),
        })
    }

    /// Returns whether the pages are those of the file, so that nobody may write to them.
    pub(crate) const fn is_read_only(&self) -> bool {
        !matches!(self.pages, Pages::Copied(_))
    }

    /// Returns whether the part is still what the file holds.
    pub(crate) fn check(&self) -> Result<ViewState, Errno> {
        match &self.pages {
            Pages::Pinned(view) => view.get().map_or(Ok(ViewState::Current), View::check),
            Pages::Host(mapping) => {
                let size = mapping.file_size()?;
                Ok(if size < mapping.range().end {
                    ViewState::Shorter { size }
                } else {
                    ViewState::Current
                })
            }
            Pages::Copied(_) => Ok(ViewState::Current),
        }
    }
}
