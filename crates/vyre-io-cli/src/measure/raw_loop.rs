//! The baseline: a raw io_uring loop that does the same work with no queue, no lanes and no checks.
//! It runs on one thread with one registered file, one registered buffer, fixed operations, a
//! registered ring descriptor, and a single issuer with deferred task work. It keeps the same
//! number of operations in flight, and replaces each as soon as it is reaped.

#![expect(
    unsafe_code,
    reason = "the baseline drives a raw ring, without the safe layer that it is compared with"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use vyre_io::Buffer;

use super::block_numbers::BlockNumbers;
use super::cores::{allowed, pin};

/// The work of a raw loop.
pub struct RawLoop {
    pub file: OwnedFd,
    /// Memory of as many blocks as there are operations in flight.
    pub buffer: Buffer,
    /// Number of operations in flight.
    pub depth: u32,
    /// Size of a block, in bytes.
    pub block_size: u32,
    pub writes: bool,
    /// Set for buffered writes, which a worker of the kernel carries out. The loop then polls and never
    /// sleeps, which is faster.
    pub polls: bool,
    pub numbers: BlockNumbers,
    pub core: Option<usize>,
}

/// Way in which entries name the file and the buffer: registered as far as the kernel supports it.
#[derive(Clone, Copy)]
struct Registered {
    file: bool,
    buffer: bool,
}

impl RawLoop {
    /// Runs for `time` on a thread of its own, and returns the operations per second. Calls `completed`
    /// for each operation, with its place in the buffer and its block of the file. The place is free
    /// until `completed` returns.
    ///
    /// # Errors
    /// Returns the kernel's error for the ring or for an operation.
    pub fn run(self, time: Duration, completed: impl FnMut(u32, u64) + Send) -> io::Result<f64> {
        let buffer = self.buffer.clone();
        // The kernel's workers would otherwise inherit the loop's core.
        let others = |core| allowed().into_iter().filter(move |&other| other != core);
        let worker_cores: Vec<usize> = self.core.into_iter().flat_map(others).collect();
        let rate = thread::scope(|scope| {
            let raw = scope.spawn(|| self.measure(time, &worker_cores, completed));
            raw.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        if rate.is_err() {
            // The kernel may still be at work on it.
            std::mem::forget(buffer);
        }
        rate
    }

    fn measure(
        mut self,
        time: Duration,
        worker_cores: &[usize],
        mut completed: impl FnMut(u32, u64),
    ) -> io::Result<f64> {
        pin(self.core);
        let (mut ring, registered) = self.ring(self.depth.next_power_of_two(), worker_cores)?;
        let (mut submitter, mut submissions, mut completions) = ring.split();
        // An old kernel does without; the figure then includes the look-up.
        let _ = submitter.register_ring_fd();

        // The block that each place of the buffer is on its way to or from.
        let mut blocks = vec![0; self.depth as usize];
        for (index, block) in (0..).zip(&mut blocks) {
            *block = self.push(&mut submissions, registered, index)?;
        }
        submissions.sync();
        let started = Instant::now();
        let mut measured = None;
        let mut done = 0_u64;
        let mut in_flight = self.depth;
        // Past the time, nothing is replaced: the buffer may not go while the kernel works on it.
        while in_flight > 0 {
            match submitter.submit_and_wait(usize::from(!self.polls)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            completions.sync();
            submissions.sync(); // What the kernel took is room again.
            for completion in &mut completions {
                self.check(&completion)?;
                let index = completion.user_data() as u32;
                completed(index, blocks[index as usize]);
                done += 1;
                if measured.is_some() {
                    in_flight -= 1;
                } else {
                    blocks[index as usize] = self.push(&mut submissions, registered, index)?;
                }
            }
            submissions.sync();
            let elapsed = started.elapsed();
            if measured.is_none() && elapsed >= time {
                measured = Some(done as f64 / elapsed.as_secs_f64());
            }
        }
        Ok(measured.unwrap_or(0.0))
    }

    fn ring(&self, entries: u32, worker_cores: &[usize]) -> io::Result<(IoUring, Registered)> {
        let ring = best_ring(entries)?;
        if !worker_cores.is_empty() {
            // An old kernel does without.
            let _ = ring.submitter().register_iowq_aff(&cpu_set(worker_cores));
        }
        let iovec = libc::iovec {
            iov_base: self.buffer.as_ptr().cast(),
            iov_len: self.buffer.len(),
        };
        let submitter = ring.submitter();
        // SAFETY: the buffer lives in `self`, which outlives the ring made in `measure`.
        let buffer = unsafe { submitter.register_buffers(&[iovec]) }.is_ok();
        let file = submitter.register_files(&[self.file.as_raw_fd()]).is_ok();
        Ok((ring, Registered { file, buffer }))
    }

    /// Queues the next operation on a block of the buffer. Returns its block of the file.
    #[inline]
    fn push(
        &mut self,
        submissions: &mut squeue::SubmissionQueue<'_>,
        registered: Registered,
        index: u32,
    ) -> io::Result<u64> {
        let (block, size) = (self.numbers.draw(), self.block_size);
        let offset = block * u64::from(size);
        let place = self
            .buffer
            .as_ptr()
            .wrapping_add(index as usize * size as usize);
        let (fixed, plain) = (types::Fixed(0), types::Fd(self.file.as_raw_fd()));
        macro_rules! entry {
            ($op:ident, $($fixed_buffer:expr)?) => {
                if registered.file {
                    opcode::$op::new(fixed, place, size $(, $fixed_buffer)?).offset(offset).build()
                } else {
                    opcode::$op::new(plain, place, size $(, $fixed_buffer)?).offset(offset).build()
                }
            };
        }
        let entry = match (self.writes, registered.buffer) {
            (true, true) => entry!(WriteFixed, 0),
            (true, false) => entry!(Write,),
            (false, true) => entry!(ReadFixed, 0),
            (false, false) => entry!(Read,),
        };
        // SAFETY: the place is inside the buffer, and no other operation in flight uses it: `index` is
        // free, or was just reaped.
        let pushed = unsafe { submissions.push(&entry.user_data(index.into())) };
        pushed.map_err(io::Error::other)?;
        Ok(block)
    }

    fn check(&self, completion: &cqueue::Entry) -> io::Result<()> {
        match u32::try_from(completion.result()) {
            Ok(moved) if moved == self.block_size => Ok(()),
            Ok(moved) => Err(io::Error::other(format!(
                "{moved} of {} bytes were moved",
                self.block_size
            ))),
            Err(_) => Err(io::Error::from_raw_os_error(-completion.result())),
        }
    }
}

fn cpu_set(cores: &[usize]) -> libc::cpu_set_t {
    // SAFETY: a set of cores is an array of integers, for which zeros are valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &core in cores {
        // SAFETY: `allowed` names cores that a set of this size has.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    set
}

/// Sets up the best ring that this kernel supports. Each further attempt omits a flag that older kernels lack.
///
/// # Errors
/// Returns the kernel's error for the last attempt.
pub fn best_ring(entries: u32) -> io::Result<IoUring> {
    let plain = IoUring::builder();
    let mut submit_all = plain.clone();
    submit_all.setup_submit_all();
    let mut cooperative = submit_all.clone();
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    let mut deferred = submit_all.clone();
    deferred
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    let mut top = deferred.clone();
    top.setup_no_sqarray();
    top.build(entries) // Linux 6.6
        .or_else(|_| deferred.build(entries)) // 6.1
        .or_else(|_| cooperative.build(entries)) // 5.19
        .or_else(|_| submit_all.build(entries)) // 5.18
        .or_else(|_| plain.build(entries))
}
