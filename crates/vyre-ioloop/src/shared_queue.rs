//! A queue whose device end is in another process.

#![expect(
    unsafe_code,
    reason = "memory that was just mapped becomes a queue's region"
)]

use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use vyre_ioq::abi::MAX_SLOTS;
use vyre_ioq::{HostQueue, QueueLayout, Region};
use vyre_uring::{Buffer, BufferError};

use crate::error::SharedQueueError;

/// The bytes of the largest queue.
const MOST_BYTES: usize = QueueLayout::with_slots(MAX_SLOTS).bytes();

/// Creates an empty queue in memory that another process can map. Returns its host end, and the
/// descriptor to send to that process.
///
/// The queue takes the first [`QueueLayout::bytes`] bytes of the memory. Whoever has the descriptor is
/// the device. It may store anything, but cannot take a page away (see [`Buffer::memfd`]). The buffers
/// that its requests name are shared in the same way.
///
/// ```
/// use vyre_ioloop::shared_queue;
/// use vyre_ioq::QueueLayout;
///
/// let (host, memfd) = shared_queue(QueueLayout::with_slots(64))?;
/// // `memfd` goes through a Unix socket (SCM_RIGHTS) to the device; `host` to `IoLoop::builder`.
/// assert_eq!(host.geometry().slots(), 64);
/// assert_eq!(std::fs::File::from(memfd).metadata()?.len(), 4096 + 64 * 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`SharedQueueError`] if the layout is invalid, or if the memory cannot be allocated.
pub fn shared_queue(layout: QueueLayout) -> Result<(HostQueue, OwnedFd), SharedQueueError> {
    // A layout that nobody can have is refused below, not for want of memory.
    let (buffer, memfd) = Buffer::memfd(layout.bytes().clamp(1, MOST_BYTES))?;
    let (base, len) = (buffer.as_ptr(), buffer.len());
    let base = NonNull::new(base).ok_or(BufferError::Empty)?;
    // SAFETY: the bytes are mapped, readable and writable until `buffer` is dropped, which the region
    // keeps, and moving it does not move them. No other name of the buffer is left in this process,
    // so that the region's words are the only access to them here.
    let region = unsafe { Region::from_owner(base, len, buffer) }?;
    Ok((HostQueue::create(region, &layout)?, memfd))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use vyre_ioq::AttachError;

    use super::*;

    #[test]
    fn the_descriptor_names_the_queue() {
        let (mut host, memfd) =
            shared_queue(QueueLayout::with_slots(2).with_id(9)).expect("memory");
        let file = File::from(memfd);
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, 0).expect("the header");
        assert_eq!(&magic, b"VYREIOQ\0");
        // Slot 1, as another process may fill it: a fence with tag 7.
        file.write_all_at(&[3, 0, 0, 0], 4096 + 64).expect("room");
        file.write_all_at(&[1, 0, 0, 0, 7, 0, 0, 0], 4096 + 64 + 24)
            .expect("room");
        let mut claims = Vec::new();
        host.claim_published(0..2, |claim| claims.push((claim.slot, claim.image.tag)));
        assert_eq!(claims, [(1, 7)]);
        assert!(file.set_len(4096).is_err(), "nobody takes a page away");
    }

    #[test]
    fn a_layout_that_cannot_be_is_named() {
        for slots in [0, MAX_SLOTS + 1, u32::MAX] {
            for layout in [QueueLayout::with_slots(slots), QueueLayout::bare(slots)] {
                let refused = shared_queue(layout).expect_err("no such queue");
                let expected = matches!(
                    refused,
                    SharedQueueError::Layout(AttachError::BadSlotCount { .. })
                );
                assert!(expected, "{refused}");
            }
        }
    }
}
