//! A file as operations use it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vyre_io::Rights;
use vyre_io::mapped::Mapping;

use crate::engine::Engine;
use crate::memory::Span;
use crate::pages::{Copier, Pages};

/// The largest read that the calling thread makes by itself, if the bytes are in memory. It takes some 10 µs.
pub(crate) const MOST_AT_ONCE: usize = 128 << 10;

/// The way in which a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `r`
    Read,
    /// `r+`
    Update,
    /// `w`
    Write,
    /// `w+`
    WriteAndRead,
    /// `x`
    Create,
    /// `x+`
    CreateAndRead,
}

impl Mode {
    /// The mode by its name, of which `b` may be a part, as for Python's `open`.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name.replace('b', "").as_str() {
            "r" => Self::Read,
            "r+" => Self::Update,
            "w" => Self::Write,
            "w+" => Self::WriteAndRead,
            "x" => Self::Create,
            "x+" => Self::CreateAndRead,
            _ => return None,
        })
    }

    const fn reads(self) -> bool {
        !matches!(self, Self::Write | Self::Create)
    }

    const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }

    fn rights(self) -> Rights {
        let read = if self.reads() {
            Rights::READ
        } else {
            Rights::empty()
        };
        let write = if self.writes() {
            Rights::WRITE
        } else {
            Rights::empty()
        };
        read | write | Rights::SYNC
    }

    fn options(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(self.reads()).write(self.writes());
        match self {
            Self::Read | Self::Update => {}
            Self::Write | Self::WriteAndRead => {
                options.create(true).truncate(true);
            }
            Self::Create | Self::CreateAndRead => {
                options.create_new(true);
            }
        }
        options
    }
}

/// An open file. Each has a number that no other has had.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    pub(crate) mode: Mode,
    /// A directory can be made durable, and nothing else.
    pub(crate) is_directory: bool,
    /// Set until the kernel says that it reads this file only by waiting.
    reads_at_once: AtomicBool,
    /// The engines whose loops may know the file.
    engines: Mutex<Vec<Weak<Engine>>>,
    /// All of the file as it was when it was mapped last.
    mapping: Mutex<Option<Arc<Mapping>>>,
    pages: Mutex<Pages>,
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

impl OpenFile {
    pub(crate) fn open(path: &Path, mode: Mode, direct: bool) -> io::Result<Self> {
        let mut options = mode.options();
        if direct {
            options.custom_flags(libc::O_DIRECT);
        }
        let file = options.open(path)?;
        let kind = file.metadata()?.file_type();
        Ok(Self {
            // Direct I/O passes by what is in memory.
            reads_at_once: AtomicBool::new(mode.reads() && !direct && kind.is_file()),
            is_directory: kind.is_dir(),
            file,
            path: path.to_owned(),
            // Relaxed: it matters only that the numbers differ.
            number: NEXT_NUMBER.fetch_add(1, Relaxed),
            mode,
            engines: Mutex::default(),
            mapping: Mutex::default(),
            pages: Mutex::default(),
        })
    }

    /// Opens the file anew, for the engine of a forked child.
    pub(crate) fn reopen(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            path: self.path.clone(),
            number: NEXT_NUMBER.fetch_add(1, Relaxed),
            mode: self.mode,
            is_directory: self.is_directory,
            reads_at_once: AtomicBool::new(self.reads_at_once.load(Relaxed)),
            engines: Mutex::default(),
            mapping: Mutex::default(),
            pages: Mutex::default(),
        })
    }

    /// Returns what the loop may do with the file.
    pub(crate) fn rights(&self) -> Rights {
        match self.is_directory {
            true => Rights::SYNC,
            false => self.mode.rights(),
        }
    }

    /// Adds an engine that has to forget the file when it is closed.
    pub(crate) fn attach_to(&self, engine: &Arc<Engine>) {
        let engine = Arc::downgrade(engine);
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if !engines.iter().any(|known| known.ptr_eq(&engine)) {
            engines.push(engine);
        }
    }

    /// Returns a mapping of the first `size` bytes, or `None` if copies out of a mapping of the file are not known to be
    /// right.
    pub(crate) fn mapping(&self, size: u64) -> Option<Arc<Mapping>> {
        let mut mapping = self.mapping.lock().unwrap_or_else(PoisonError::into_inner);
        if mapping
            .as_ref()
            .is_none_or(|mapping| mapping.range().end < size)
        {
            *mapping = Mapping::new(&self.file, 0..size).ok().map(Arc::new);
        }
        mapping.clone()
    }

    /// Returns the means to copy pages that are in memory, if they are worth it.
    pub(crate) fn copier(&self) -> Option<Copier> {
        // Relaxed: the flag is a hint. Direct I/O passes by what is in memory.
        if !self.reads_at_once.load(Relaxed) {
            return None;
        }
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.copier(&self.file)
    }

    /// Reads bytes that are in memory, with the result that pread(2) would give. `None` if the read would wait, or is
    /// too long to be made by the calling thread.
    pub(crate) fn read_at_once(&self, span: &Span, offset: u64) -> Option<usize> {
        // Relaxed: the flag is a hint.
        if span.len() > MOST_AT_ONCE || !self.reads_at_once.load(Relaxed) {
            return None;
        }
        match span.read_without_waiting(&self.file, offset) {
            Ok(count) if count == span.len() => Some(count),
            // Either the file ends there, or later bytes are not in memory.
            Ok(count) => {
                let size = self.file.metadata().ok()?.len();
                (offset.saturating_add(count as u64) >= size).then_some(count)
            }
            Err(error) => {
                if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
                    self.reads_at_once.store(false, Relaxed);
                }
                None
            }
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let engines = self.engines.get_mut();
        let engines = engines.unwrap_or_else(PoisonError::into_inner);
        for engine in engines.iter().filter_map(Weak::upgrade) {
            engine.detach(self.number);
        }
    }
}
