//! The kernel's part of a ring: its memory, its queues, `io_uring_enter` and `io_uring_register`.
//!
//! The crate `io-uring` remembers a registered ring descriptor in one `Submitter`, and caches queue
//! heads in one `SubmissionQueue` and one `CompletionQueue`. All three handles are therefore kept for
//! the ring's whole life, beside the `IoUring` that they borrow from.
#![expect(
    unsafe_code,
    reason = "ties the borrowed handles to their ring, and enters the kernel"
)]

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::ptr::NonNull;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, Parameters, Probe, opcode};
use io_uring::{SubmissionQueue, Submitter, cqueue, squeue};
use rustix::io::Errno;
use rustix::io_uring::{IoringRegisterOp, io_uring_ptr, io_uring_register};
use rustix::io_uring::{io_uring_rsrc_update2, iovec};

use crate::kernel_features::KernelFeatures;

/// A ring and its handles.
///
/// The fields drop in this order: the handles, which write to the ring's memory when dropped, before
/// the ring. (`Drop for KernelRing` runs before either.)
pub(crate) struct KernelRing {
    pub(crate) sq: SubmissionQueue<'static>,
    pub(crate) cq: CompletionQueue<'static>,
    submitter: Submitter<'static>,
    owner: Owner,
    /// Features that the kernel is treated as lacking.
    withheld: KernelFeatures,
}

/// Owns a boxed ring by raw pointer, so that a move of it asserts no uniqueness over what the handles
/// borrow.
struct Owner(NonNull<IoUring>);

impl Owner {
    fn get(&self) -> &IoUring {
        // SAFETY: the pointer came from a box that only `Drop for Owner` frees; since then there
        // have been shared references to it alone.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::leak` and is given back once. It is the last field of
        // `KernelRing`, so the handles that borrowed from the ring are gone.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Returns the errno in an error of the `io-uring` crate, all of which come from system calls.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl KernelRing {
    pub(crate) fn new(ring: IoUring, withheld: KernelFeatures) -> Self {
        let pointer = NonNull::from(Box::leak(Box::new(ring)));
        let owner = Owner(pointer);
        // SAFETY: the ring was just leaked and is freed by `owner` only, the last field of the value
        // built here, after every user of this reference (the three handles, which do not leave
        // `KernelRing`) was dropped. Until then only shared references to it exist.
        let ring: &'static IoUring = unsafe { pointer.as_ref() };
        Self {
            // SAFETY: this is the one submission queue handle of the ring, for its whole life.
            sq: unsafe { ring.submission_shared() },
            // SAFETY: this is the one completion queue handle of the ring, for its whole life.
            cq: unsafe { ring.completion_shared() },
            submitter: ring.submitter(),
            owner,
            withheld,
        }
    }

    /// Refuses what is withheld, as a kernel that does not know it does.
    fn check(&self, feature: KernelFeatures) -> Result<(), Errno> {
        match self.withheld.intersects(feature) {
            true => Err(Errno::INVAL),
            false => Ok(()),
        }
    }

    pub(crate) fn params(&self) -> &Parameters {
        self.owner.get().params()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.owner.get().as_fd()
    }

    /// Puts an entry into the submission queue. Returns `false` if the queue is full.
    ///
    /// # Safety
    /// The memory that the entry names stays valid, and a plain descriptor that it names stays open,
    /// until the entry's completion was posted, or until the ring is dropped if the entry is never
    /// submitted.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller's promise is the one that `SubmissionQueue::push` asks for.
        unsafe { self.sq.push(entry) }.is_ok()
    }

    /// Returns whether the kernel waits for this thread to enter it: to run deferred task work, or to
    /// flush completions that overflowed the queue.
    #[inline]
    pub(crate) fn wants_entry(&self) -> bool {
        self.sq.taskrun() || self.sq.cq_overflow()
    }

    /// Calls `io_uring_enter`: submits up to `submit` published entries, runs deferred work, and waits
    /// for `want` completions, for `timeout` at most. A timeout needs the kernel feature `EXT_ARG`.
    pub(crate) fn enter(
        &self,
        submit: u32,
        want: u32,
        timeout: Option<&Timespec>,
    ) -> Result<u32, Errno> {
        let mut flags = EnterFlags::empty();
        if want > 0 || self.wants_entry() {
            flags |= EnterFlags::GETEVENTS;
        }
        let done = if let Some(timeout) = timeout {
            let args = SubmitArgs::new().timespec(timeout);
            flags |= EnterFlags::EXT_ARG;
            // SAFETY: with `EXT_ARG` the argument is an `io_uring_getevents_arg`, of which `SubmitArgs`
            // is a transparent wrapper; it and the timeout live through the call. Published entries were
            // pushed under the promise of `push`.
            unsafe {
                self.submitter
                    .enter(submit, want, flags.bits(), Some(&args))
            }
        } else {
            // SAFETY: without an argument the kernel reads no memory. Published entries were pushed
            // under the promise of `push`.
            unsafe {
                self.submitter
                    .enter::<u64>(submit, want, flags.bits(), None)
            }
        };
        done.map(|taken| taken as u32)
            .map_err(|error| errno_of(&error))
    }

    /// Performs one operation that does nothing: a sandbox may allow the set-up of a ring and forbid
    /// entering it.
    pub(crate) fn trial(&mut self) -> Result<(), Errno> {
        let nop = opcode::Nop::new().build();
        // SAFETY: the entry names no memory and no descriptor.
        let pushed = unsafe { self.push(&nop) };
        self.sq.sync();
        while pushed && !self.sq.is_empty() {
            match self.enter(1, 1, None) {
                Ok(_) | Err(Errno::INTR) => self.sq.sync(),
                Err(errno) => return Err(errno),
            }
        }
        loop {
            self.cq.sync();
            if let Some(completion) = self.next_completion() {
                self.cq.sync();
                return match completion.result() {
                    0 => Ok(()),
                    res => Err(Errno::from_raw_os_error(res.wrapping_neg())),
                };
            }
            match self.enter(0, 1, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    pub(crate) fn register_ring_fd(&mut self) -> Result<(), Errno> {
        self.check(KernelFeatures::RING_FD)?;
        self.submitter
            .register_ring_fd()
            .map_err(|error| errno_of(&error))
    }

    pub(crate) fn register_files_sparse(&self, count: u32) -> Result<(), Errno> {
        self.check(KernelFeatures::FILES)?;
        self.submitter
            .register_files_sparse(count)
            .map_err(|error| errno_of(&error))
    }

    pub(crate) fn register_buffers_sparse(&self, count: u32) -> Result<(), Errno> {
        self.check(KernelFeatures::BUFFERS)?;
        self.submitter
            .register_buffers_sparse(count)
            .map_err(|error| errno_of(&error))
    }

    /// Sets the largest numbers of worker threads of this thread's rings, for files with offsets and
    /// for others. Zero leaves a number as it is. Returns the earlier numbers.
    pub(crate) fn bound_workers(&self, mut counts: [u32; 2]) -> Result<[u32; 2], Errno> {
        self.check(KernelFeatures::WORKER_BOUNDS)?;
        self.submitter
            .register_iowq_max_workers(&mut counts)
            .map_err(|error| errno_of(&error))?;
        Ok(counts)
    }

    /// Sets the cores on which the workers of this thread's rings run.
    pub(crate) fn register_worker_cores(&self, cores: &[usize]) -> Result<(), Errno> {
        self.check(KernelFeatures::WORKER_CORES)?;
        // SAFETY: a set of cores is an array of integers, for which zeros are valid.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        let bits = 8 * size_of::<libc::cpu_set_t>();
        for &core in cores.iter().filter(|&&core| core < bits) {
            // SAFETY: the set has that many bits.
            unsafe { libc::CPU_SET(core, &mut set) };
        }
        self.submitter
            .register_iowq_aff(&set)
            .map_err(|error| errno_of(&error))
    }

    pub(crate) fn probe(&self) -> Result<Probe, Errno> {
        self.check(KernelFeatures::PROBE)?;
        let mut probe = Probe::new();
        self.submitter
            .register_probe(&mut probe)
            .map_err(|error| errno_of(&error))?;
        Ok(probe)
    }

    /// Puts a descriptor into the kernel's file table; -1 empties the index.
    pub(crate) fn update_file(&self, index: u32, fd: RawFd) -> Result<(), Errno> {
        match self.submitter.register_files_update(index, &[fd]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(Errno::INVAL),
            Err(error) => Err(errno_of(&error)),
        }
    }

    /// Puts memory into the kernel's buffer table.
    ///
    /// # Safety
    /// The memory stays mapped until the index was cleared and the operations that use it have
    /// completed.
    pub(crate) unsafe fn update_buffer(
        &self,
        index: u32,
        base: *mut u8,
        len: usize,
    ) -> Result<(), Errno> {
        let memory = iovec {
            iov_base: base.cast(),
            iov_len: len,
        };
        let mut update = io_uring_rsrc_update2::default();
        update.offset = index;
        update.data = io_uring_ptr::new((&raw const memory).cast_mut().cast());
        update.nr = 1;
        // SAFETY: for this opcode the kernel reads one `io_uring_rsrc_update2`, of the size stated,
        // and the one `iovec` it names; both live through the call. The caller vouches for the
        // memory that this names in turn.
        let updated = unsafe {
            io_uring_register(
                self.fd(),
                IoringRegisterOp::RegisterBuffersUpdate,
                (&raw const update).cast::<c_void>(),
                size_of::<io_uring_rsrc_update2>() as u32,
            )
        };
        updated.map(|_| ())
    }

    /// Empties an index of the kernel's buffer table.
    pub(crate) fn clear_buffer(&self, index: u32) -> Result<(), Errno> {
        // SAFETY: no memory is named.
        unsafe { self.update_buffer(index, std::ptr::null_mut(), 0) }
    }

    /// Cancels everything submitted, without waiting for what cannot be cancelled.
    pub(crate) fn cancel_all(&self) -> Result<(), Errno> {
        self.check(KernelFeatures::SYNC_CANCEL)?;
        let all = CancelBuilder::any().all();
        match self
            .submitter
            .register_sync_cancel(Some(Timespec::new()), all)
        {
            Ok(()) => Ok(()),
            Err(error) => match errno_of(&error) {
                Errno::NOENT | Errno::TIME | Errno::ALREADY | Errno::INTR => Ok(()),
                errno => Err(errno),
            },
        }
    }

    /// Takes the next completion that the last sync made visible.
    #[inline]
    pub(crate) fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.cq.next()
    }
}

impl Drop for KernelRing {
    fn drop(&mut self) {
        // The thread holds a registered descriptor, not the ring: left registered, it would keep the
        // ring alive until the thread ends.
        let _ = self.submitter.unregister_ring_fd();
        let _ = self.submitter.unregister_buffers();
        let _ = self.submitter.unregister_files();
    }
}
