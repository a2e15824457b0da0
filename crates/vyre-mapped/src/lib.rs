#![doc = include_str!("../README.md")]
//!
//! # Module map
//!
//! | to | use |
//! | --- | --- |
//! | map a range of a file | [`Mapping::new`]; [`MapError`] says why not |
//! | prepare a thread | [`Recovery`]; [`RecoveryError`] says why not |
//! | read as `pread` does | [`Mapping::read_at`] |
//! | copy without a system call | [`Mapping::copy_to`], with [`SizeProbe`] or [`Mapping::file_size`] before them |
//! | copy to memory that a device shares | [`Mapping::copy_to_ptr`] |
//! | read pages in beforehand | [`Mapping::populate`] |
//! | do so on a thread, with progress and cancellation | [`Populating`] |
//! | know whether pages were replaced under a pin | [`Mapping::stamp`], [`Mapping::first_unmapped`] |
//! | know which pages are in memory | [`Residency`], kept up to date by a [`Watcher`] |

#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
//
// The files, in the order of their dependencies:
//   error        why a call did not succeed
//   arch, sys    all unsafe code: the copy, the handler of SIGBUS, the mapping
//   recovery     the thread that copies
//   file_system  which files may be mapped
//   page_tables  which pages are mapped in this process
//   mapping      the safe interface
//   size_probe   where the file ends
//   populating   the thread that reads pages in
//   raw_copy     a copy to memory that others share
//   page_map     a bit for each page
//   residency    which pages are in memory
//   watcher      the thread that finds that out

mod arch;
mod error;
mod file_system;
mod mapping;
mod page_map;
mod page_tables;
mod populating;
mod raw_copy;
mod recovery;
mod residency;
mod size_probe;
mod sys;
mod watcher;

pub use error::{CopyError, MapError, RecoveryError};
pub use mapping::{Hint, Mapping, Stamp};
pub use populating::{Populated, Populating};
pub use recovery::Recovery;
pub use residency::{Residency, Source};
pub use size_probe::SizeProbe;
pub use watcher::Watcher;

/// An errno of the kernel.
pub use rustix::io::Errno;
