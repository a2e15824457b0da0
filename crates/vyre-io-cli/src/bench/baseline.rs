//! The yardstick: a raw io_uring loop that does the same work with no queue, no lanes and no
//! checks. One thread, one registered file, one registered buffer, fixed operations, the ring's
//! descriptor registered, single issuer with deferred task work; as many operations in flight,
//! each replaced as soon as it is reaped.

#![allow(unsafe_code)] // What `vyre-uring` makes safe is done by hand here, to have no layer at all.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use vyre_io::Buffer;

use super::plan::{BlockNumbers, Plan, pin};
use super::target::Target;
use crate::args::{BenchArgs, BenchOp, Pattern};
use crate::failure::Failure;

pub(super) struct Raw {
    file: OwnedFd,
    buffer: Buffer,
    depth: u32,
    size: u32,
    writes: bool,
    numbers: BlockNumbers,
    core: Option<usize>,
}

impl Raw {
    pub(super) fn new(args: &BenchArgs, plan: &Plan, target: &Target) -> Result<Self, Failure> {
        let (depth, size) = (plan.depth(), plan.block_size);
        Ok(Self {
            file: target.duplicate()?,
            buffer: Buffer::anonymous(depth as usize * size as usize)?,
            depth,
            size,
            writes: args.op == BenchOp::Write,
            numbers: BlockNumbers::new(0, target.blocks, args.pattern == Pattern::Random),
            core: plan.loop_cores().and_then(|cores| cores.first().copied()),
        })
    }

    /// Runs for `time`, on a thread of its own; operations in a second.
    pub(super) fn run(self, time: Duration) -> Result<f64, Failure> {
        let raw = thread::spawn(move || self.measure(time));
        raw.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(Failure::Baseline)
    }

    fn measure(mut self, time: Duration) -> io::Result<f64> {
        pin(self.core);
        let entries = self.depth.next_power_of_two();
        let mut ring = self.ring(entries)?;
        let (mut submitter, mut submissions, mut completions) = ring.split();
        // An old kernel does without; the figure then includes the look-up.
        let _ = submitter.register_ring_fd();

        for index in 0..self.depth {
            self.push(&mut submissions, index)?;
        }
        submissions.sync();
        let started = Instant::now();
        let mut measured = None;
        let mut done = 0_u64;
        let mut in_flight = self.depth;
        // Past the time, nothing is replaced: the buffer may not go while the kernel works on it.
        while in_flight > 0 {
            match submitter.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            completions.sync();
            submissions.sync(); // What the kernel took is room again.
            for completion in &mut completions {
                self.check(&completion)?;
                done += 1;
                if measured.is_some() {
                    in_flight -= 1;
                } else {
                    self.push(&mut submissions, completion.user_data() as u32)?;
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

    fn ring(&self, entries: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all();
        let plain = builder.clone();
        // Without it before Linux 6.6.
        let ring = builder
            .setup_no_sqarray()
            .build(entries)
            .or_else(|_| plain.build(entries))?;
        let iovec = libc::iovec {
            iov_base: self.buffer.as_ptr().cast(),
            iov_len: self.buffer.len(),
        };
        // SAFETY: the buffer lives in `self`, which outlives the ring made in `measure`.
        unsafe { ring.submitter().register_buffers(&[iovec]) }?;
        ring.submitter().register_files(&[self.file.as_raw_fd()])?;
        Ok(ring)
    }

    #[inline]
    fn push(
        &mut self,
        submissions: &mut squeue::SubmissionQueue<'_>,
        index: u32,
    ) -> io::Result<()> {
        let offset = self.numbers.next() * u64::from(self.size);
        let place = self
            .buffer
            .as_ptr()
            .wrapping_add(index as usize * self.size as usize);
        let entry = if self.writes {
            opcode::WriteFixed::new(types::Fixed(0), place, self.size, 0)
                .offset(offset)
                .build()
        } else {
            opcode::ReadFixed::new(types::Fixed(0), place, self.size, 0)
                .offset(offset)
                .build()
        };
        // SAFETY: the place is inside the registered buffer, and no other operation in flight uses
        // it: `index` is free, or was just reaped.
        let pushed = unsafe { submissions.push(&entry.user_data(index.into())) };
        pushed.map_err(io::Error::other)
    }

    fn check(&self, completion: &cqueue::Entry) -> io::Result<()> {
        match u32::try_from(completion.result()) {
            Ok(moved) if moved == self.size => Ok(()),
            Ok(moved) => Err(io::Error::other(format!(
                "{moved} of {} bytes were moved",
                self.size
            ))),
            Err(_) => Err(io::Error::from_raw_os_error(-completion.result())),
        }
    }
}
