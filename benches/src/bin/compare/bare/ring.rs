//! Serves slots by READ_FIXED.

#![expect(
    unsafe_code,
    reason = "the server drives a raw ring, without the safe layer that it is compared with"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicBool;

use io_uring::{opcode, types};
use vyre_io::Buffer;
use vyre_io_cli::measure::raw_loop::best_ring;

use super::slots::Slots;
use super::until_stopped;
use crate::target::Target;

pub(super) fn serve(
    target: &Target,
    slots: &Slots,
    buffer: &Buffer,
    size: u32,
    stop: &AtomicBool,
) -> io::Result<()> {
    let file = target.reopen_for_ring()?;
    let mut ring = best_ring(slots.count().next_power_of_two())?;
    let iovec = libc::iovec {
        iov_base: buffer.as_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the buffer outlives the ring.
    unsafe { ring.submitter().register_buffers(&[iovec]) }?;
    ring.submitter().register_files(&[file.as_raw_fd()])?;
    let (mut submitter, mut submissions, mut completions) = ring.split();
    // An old kernel does without.
    let _ = submitter.register_ring_fd();
    let mut claimed = vec![false; slots.count() as usize];
    let mut in_flight = 0_u32;
    until_stopped(stop, || {
        let mut found = 0;
        for (slot, claimed) in (0..).zip(&mut claimed) {
            let Some(offset) = (!*claimed).then(|| slots.published(slot)).flatten() else {
                continue;
            };
            let place = buffer.as_ptr().wrapping_add(slot as usize * size as usize);
            let read = opcode::ReadFixed::new(types::Fixed(0), place, size, 0).offset(offset);
            // SAFETY: the place is inside the buffer, which has one for each slot, and the slot has no
            // other operation in flight.
            let pushed = unsafe { submissions.push(&read.build().user_data(slot.into())) };
            pushed.map_err(io::Error::other)?;
            *claimed = true;
            found += 1;
        }
        in_flight += found;
        if in_flight == 0 {
            return Ok(false);
        }
        submissions.sync();
        // Cached blocks are there when the call returns. Only those that are not are waited for.
        let wait = usize::from(found == 0);
        match submitter.submit_and_wait(wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        completions.sync();
        submissions.sync();
        for completion in &mut completions {
            let slot = completion.user_data() as u32;
            claimed[slot as usize] = false;
            in_flight -= 1;
            slots.complete(slot, u32::try_from(completion.result()) == Ok(size));
        }
        Ok(true)
    })
}
