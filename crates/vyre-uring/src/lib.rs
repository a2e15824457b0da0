#![doc = include_str!("../README.md")]
//!
//! # Module map
//!
//! | to | use |
//! | --- | --- |
//! | set up a ring | [`Ring::builder`], [`RingBuilder`]; [`RingReport`] says what was reached |
//! | work where io_uring is refused | [`AnyTransport`], which is a [`Ring`] or a [`ThreadPool`]; [`SetupReport`] says which, and why |
//! | build it as if the kernel were older | [`KernelFeatures`] |
//! | give it files and memory | [`FileSlot`], [`FileTraits`], [`BufferSlot`], [`Buffer`] |
//! | run operations | [`Operation`], [`Ring`], [`Completion`]; [`Token`] to cancel one |
//! | align direct I/O | [`direct_alignment`], [`alignment_of`], [`alignment_of_path`], [`DirectAlign`] |
//! | copy cached bytes without a system call | [`PageCacheTransport`], [`CachedFile`] |
//! | write code for any transport | [`Transport`]; `SimTransport` to test it (feature `sim`) |

#![doc(html_root_url = "https://docs.rs/vyre-uring/latest")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
//
// The files, in the order of their dependencies:
//   operation, completion, error      what is asked of a transport, and what it answers
//   buffer, file_traits, align        memory and files
//   futex_word                        words on which a wait can end
//   cached_file, page_cache_counters  files whose cached bytes may be copied, and what became of reads
//   transport                         the interface
//   futex_means                       how a wait on them ends
//   kernel_features                   what a transport uses where the kernel has it
//   ring_report, thread_pool_report   what a transport was built with
//   setup_report                      one of these
//   kernel_ring                       the kernel's ring and what it can do
//   service_thread                    threads that serve a transport
//   wait_list, relay                  waits on words, without a ring and beside it
//   token_table                       the operations in flight
//   ring, setup                       the transport on io_uring: ring.rs maps its steps to files
//   thread_pool                       the transport on threads: thread_pool.rs maps its steps to files
//   any_transport                     one of the two, chosen at set-up
//   page_cache                        the transport that copies cached bytes, around another one
//   sim                               the simulated transport

mod align;
mod any_transport;
mod buffer;
mod cached_file;
mod completion;
mod error;
mod file_traits;
mod futex_means;
mod futex_word;
mod kernel_features;
mod kernel_ring;
mod operation;
mod page_cache;
mod page_cache_counters;
mod relay;
mod ring;
mod ring_report;
mod service_thread;
mod settings;
mod setup;
mod setup_report;
#[cfg(feature = "sim")]
mod sim;
mod thread_pool;
mod thread_pool_report;
mod token_table;
mod transport;
mod wait_list;

pub use align::{DirectAlign, alignment_of, alignment_of_path, direct_alignment};
pub use any_transport::{AnyTransport, TransportBuilder, TransportChoice};
pub use buffer::{Buffer, OutOfRange};
pub use cached_file::CachedFile;
pub use completion::{Completion, Token};
pub use error::{BufferError, Busy, EnterError, PushError, RegisterError, SetupError};
pub use file_traits::FileTraits;
pub use futex_means::FutexMeans;
pub use futex_word::FutexWord;
pub use kernel_features::KernelFeatures;
pub use operation::{BufferSlot, FileSlot, Operation};
pub use page_cache::{MAX_COPY_BYTES, PageCacheTransport, SUBMIT_COPY_BYTES};
pub use page_cache_counters::PageCacheCounters;
pub use ring::Ring;
pub use setup::RingBuilder;
pub use setup_report::{Opcode, RefusedFlags, RingFeatures, RingReport, SetupReport, SetupStep};
#[cfg(feature = "sim")]
pub use sim::{SimBuilder, SimTransport};
pub use thread_pool::{ThreadPool, ThreadPoolBuilder};
pub use thread_pool_report::ThreadPoolReport;
pub use transport::{MAX_BUNDLE, Transport};

/// An errno of the kernel, with which a failed operation completes.
pub use rustix::io::Errno;
/// The mappings under page-cache reads.
pub use vyre_mapped;
