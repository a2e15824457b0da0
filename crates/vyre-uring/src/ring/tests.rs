use std::fs::File;

use io_uring::squeue;

use super::complete::AGAIN;
use super::register::replace;
use super::*;
use crate::kernel_features::KernelFeatures;
use crate::token_table::NO_BUFFER;

mod futexes;
mod in_memory;

fn ring() -> Ring {
    ring_without(KernelFeatures::empty())
}

/// Rings whose sleeps end by different means.
fn rings() -> impl Iterator<Item = Ring> {
    let rungs = [(6, 7), (6, 6), (5, 15), (5, 10)];
    rungs
        .into_iter()
        .map(|(major, minor)| ring_without(KernelFeatures::newer_than(major, minor)))
}

fn ring_without(withheld: KernelFeatures) -> Ring {
    let mut ring = Ring::builder()
        .entries(4)
        .register_buffers(false)
        .withhold(withheld)
        .build()
        .unwrap();
    let file = File::open("/dev/zero").unwrap();
    ring.set_file(FileSlot::new(0), Some(Arc::new(file.into())))
        .unwrap();
    ring.set_buffer(BufferSlot::new(0), Some(Buffer::anonymous(4096).unwrap()))
        .unwrap();
    ring
}

const READ: Operation = Operation::Read {
    file: FileSlot::new(0),
    offset: 0,
    buffer: BufferSlot::new(0),
    buffer_offset: 0,
    len: 1,
};

#[test]
fn a_late_completion_is_a_stray_and_leaves_newer_operations_alone() {
    let mut ring = ring();
    let old = ring.push(READ, 1).unwrap();
    ring.wait(None).unwrap();
    assert_eq!(ring.reap(|_| ()), 1);
    let mut next = None;
    // The entries are taken in turn: use them until the old one is in use again.
    while next.is_none() {
        let token = ring.push(READ, 2).unwrap();
        next = (token.index() == old.index()).then_some(token);
    }
    let live = ring.in_flight();
    assert_eq!(ring.complete(old, 1), None);
    assert_eq!(ring.complete(Token::from_raw(u64::MAX), 0), None);
    assert_eq!(ring.complete(Token::pack(0, 0), 0), None);
    assert_eq!((ring.stray_completions(), ring.in_flight()), (3, live));
}

#[test]
fn one_result_stashed_twice_is_reaped_once() {
    let mut ring = ring();
    let token = ring.push(READ, 1).unwrap();
    ring.wait(None).unwrap();
    assert_eq!(ring.stash_all(), 0);
    ring.stash(token, 9);
    let mut results = Vec::new();
    ring.reap(|completion| results.push(completion.result));
    assert_eq!(results, [Ok(1)]);
    assert_eq!(ring.stray_completions(), 1);
}

#[test]
fn a_fatal_error_counts_the_cancel_requests_as_answered() {
    let mut ring = ring();
    let token = ring.push(READ, 1).unwrap();
    assert!(ring.cancel(token));
    assert_eq!(ring.poison(Errno::BADF), EnterError::Fatal(Errno::BADF));
    assert_eq!(ring.cancels, 0);
    let mut results = Vec::new();
    ring.reap(|completion| results.push((completion.user, completion.result)));
    assert_eq!(results, [(1, Err(Errno::BADF))]);
    assert_eq!(ring.in_flight(), 0);
    ring.quiesce(Duration::ZERO).unwrap();
}

#[test]
fn operations_are_cancelled_one_by_one_where_the_kernel_has_no_other_way() {
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let mut ring = ring();
    ring.set_file(FileSlot::new(0), Some(Arc::new(reader)))
        .unwrap();
    for user in 0..4 {
        ring.push(READ, user).unwrap();
    }
    ring.submit().unwrap();
    ring.cancel_each();
    let mut left = 4;
    while left > 0 {
        ring.wait(None).unwrap();
        left -= ring.reap(|completion| assert_eq!(completion.result, Err(Errno::CANCELED)));
    }
    // The completions of the requests themselves may come a little later.
    while ring.cancels > 0 {
        ring.wait(Some(Duration::from_millis(1))).unwrap();
        ring.reap(|_| panic!("a completion too many"));
    }
    assert_eq!(ring.stray_completions(), 0);
}

#[test]
fn the_kernels_limit_clamps_a_transfer() {
    let mut ring = ring();
    // Never accessed, so the kernel provides no pages.
    ring.set_buffer(
        BufferSlot::new(0),
        Some(Buffer::anonymous(5 << 30).unwrap()),
    )
    .unwrap();
    for (asked, given) in [(u32::MAX, 0x7fff_0000), (0x7fff_0000, 0x7fff_0000), (9, 9)] {
        assert_eq!(
            ring.span(BufferSlot::new(0), 0, asked).map(|span| span.len),
            Ok(given)
        );
    }
}

/// Longer than any test takes.
const HANG: Duration = Duration::from_secs(3600);

#[test]
fn a_wake_up_ends_a_wait_whether_it_comes_before_or_during_it() {
    for mut ring in rings() {
        let waker = ring.waker().expect("an eventfd");
        for _ in 0..3 {
            waker.wake_by_ref();
            waker.wake_by_ref();
            ring.wait(Some(HANG)).unwrap();
            assert_eq!(ring.reap(|_| ()), 0);
            let (asleep, now) = std::sync::mpsc::channel();
            let waker = ring.waker().expect("an eventfd");
            let other = std::thread::spawn(move || {
                now.recv().unwrap();
                waker.wake();
            });
            asleep.send(()).unwrap();
            ring.wait(Some(HANG)).unwrap();
            assert_eq!(ring.reap(|_| ()), 0);
            other.join().unwrap();
        }
        assert_eq!((ring.stray_completions(), ring.in_flight()), (0, 0));
    }
}

#[test]
fn a_wake_up_is_seen_while_operations_wait_and_after_they_were_cancelled() {
    for mut ring in rings() {
        let (reader, _writer) = std::io::pipe().unwrap();
        ring.set_file(FileSlot::new(1), Some(Arc::new(reader.into())))
            .unwrap();
        let waiting = Operation::Read {
            file: FileSlot::new(1),
            offset: 0,
            buffer: BufferSlot::new(0),
            buffer_offset: 0,
            len: 1,
        };
        let waker = ring.waker().expect("an eventfd");
        for _ in 0..2 {
            // As many as the ring takes: the poll of the eventfd is not one of them.
            while ring.push(waiting, 0).is_ok() {}
            assert_eq!(ring.in_flight(), ring.capacity());
            waker.wake_by_ref();
            ring.wait(Some(HANG)).unwrap();
            assert_eq!(ring.reap(|_| ()), 0);
            // This cancels the poll, too.
            ring.quiesce(HANG).unwrap();
            assert_eq!(ring.reap(|_| ()), ring.capacity());
        }
        assert_eq!(ring.stray_completions(), 0);
    }
}

/// Returns the number of the thread's workers. The kernel starts one for the first operation that it
/// hands over.
fn workers() -> usize {
    let this = std::fs::read_link("/proc/thread-self").unwrap();
    let name = format!("iou-wrk-{}\n", this.file_name().unwrap().to_str().unwrap());
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|found| *found == name).count()
}

fn read_once(ring: &mut Ring) {
    ring.push(READ, 1).unwrap();
    ring.wait(None).unwrap();
    assert_eq!(ring.reap(|it| assert_eq!(it.result, Ok(1))), 1);
}

#[test]
fn a_file_that_needs_workers_is_served_by_them_from_the_start() {
    for register in [true, false] {
        // On a thread of its own: the workers of other threads are not counted.
        let checked = std::thread::spawn(move || {
            let mut ring = Ring::builder().register_files(register).build().unwrap();
            let zero = Arc::new(OwnedFd::from(File::open("/dev/zero").unwrap()));
            let slot = FileSlot::new(0);
            ring.set_buffer(BufferSlot::new(0), Some(Buffer::anonymous(4096).unwrap()))
                .unwrap();
            ring.set_file(slot, Some(zero.clone())).unwrap();
            read_once(&mut ring);
            assert_eq!(workers(), 0, "read inline");
            let mut traits = FileTraits::of(&zero);
            traits.needs_workers = true;
            ring.set_file_with(slot, zero.clone(), traits).unwrap();
            read_once(&mut ring);
            assert_eq!(workers(), 1, "handed over");
            // The next file in the slot is examined again.
            ring.set_file(slot, Some(zero)).unwrap();
            assert!(ring.files[0].flags.is_empty());
        });
        checked.join().unwrap();
    }
}

#[test]
fn after_eagain_a_file_is_served_by_workers() {
    let mut ring = ring();
    let file = tempfile::tempfile().unwrap();
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    for (file, handed_over) in [(OwnedFd::from(file), true), (pipe, false)] {
        ring.set_file(FileSlot::new(0), Some(Arc::new(file)))
            .unwrap();
        assert!(ring.files[0].flags.is_empty());
        let token = ring.push(READ, 1).unwrap();
        let told = ring.complete(token, AGAIN).map(|it| it.result);
        assert_eq!(told, Some(Err(Errno::AGAIN)));
        let asynchronous = ring.files[0].flags.contains(squeue::Flags::ASYNC);
        assert_eq!(asynchronous, handed_over, "a pipe is waited for by polling");
    }
}

#[test]
fn a_slot_gets_its_old_file_back_when_the_new_one_is_refused() {
    let given = std::cell::RefCell::new(Vec::new());
    let update = |fd| {
        given.borrow_mut().push(fd);
        if fd == 9 { Err(Errno::BADF) } else { Ok(()) }
    };
    let refused = Err(RegisterError::Kernel(Errno::BADF));
    assert_eq!(replace(Some(3), 9, update), refused);
    assert_eq!(given.take(), [9, 3]);
    assert_eq!(replace(None, 9, update), refused);
    assert_eq!(given.take(), [9]);
    let never = |_| Err(Errno::NOMEM);
    let emptied = Err(RegisterError::Emptied(Errno::NOMEM));
    assert_eq!(replace(Some(3), 9, never), emptied);
}

#[test]
fn a_cancel_request_that_missed_can_be_sent_again() {
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let mut ring = ring();
    ring.set_file(FileSlot::new(0), Some(Arc::new(reader)))
        .unwrap();
    let token = ring.push(READ, 1).unwrap();
    ring.submit().unwrap();
    // As if a request was sent, which the kernel then answers with ENOENT.
    ring.tokens.get_mut(token).unwrap().cancelling = true;
    ring.cancels = 1;
    assert!(ring.cancel(token));
    assert_eq!(ring.submit(), Ok(0), "one request is on its way");
    assert_eq!(ring.complete(token.cancel_request(), -2), None);
    assert!(ring.cancel(token));
    assert_eq!(ring.submit(), Ok(1), "asked again");
    ring.wait(None).unwrap();
    let mut results = Vec::new();
    while results.is_empty() {
        ring.wait(None).unwrap();
        ring.reap(|completion| results.push(completion.result));
    }
    assert_eq!(results, [Err(Errno::CANCELED)]);
}

/// Records an operation that the kernel never gives back.
fn keep_one(ring: &mut Ring) {
    ring.tokens.insert(1, 0, NO_BUFFER).unwrap();
}

#[test]
fn drop_does_not_wait_again_after_a_quiesce_in_vain() {
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut ring = Ring::builder().drop_deadline(HANG).build().unwrap();
        keep_one(&mut ring);
        for _ in 0..2 {
            assert_eq!(ring.quiesce(Duration::ZERO), Err(Busy::new(1)));
        }
        drop(ring);
        done.send(()).unwrap();
    });
    is_done
        .recv_timeout(Duration::from_secs(60))
        .expect("the drop waits for its own deadline");
    thread.join().unwrap();
}

#[test]
fn drop_waits_for_operations_pushed_after_a_quiesce() {
    for quiesced in [false, true] {
        let limit = Duration::from_millis(50);
        let mut ring = Ring::builder().drop_deadline(limit).build().unwrap();
        keep_one(&mut ring);
        if quiesced {
            assert_eq!(ring.quiesce(Duration::ZERO), Err(Busy::new(1)));
            let (reader, _writer) = rustix::pipe::pipe().unwrap();
            let slot = FileSlot::new(1);
            ring.set_file(slot, Some(Arc::new(reader))).unwrap();
            let data_only = true;
            let later = Operation::Sync {
                file: slot,
                data_only,
            };
            ring.push(later, 2).unwrap();
        }
        let started = std::time::Instant::now();
        drop(ring);
        assert!(started.elapsed() >= limit, "{:?}", started.elapsed());
    }
}

#[test]
fn the_descriptor_is_readable_while_a_completion_waits() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let mut ring = ring();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let slot = FileSlot::new(1);
    ring.set_file(slot, Some(Arc::new(reader.into()))).unwrap();
    let readable = |ring: &Ring, limit: i64| {
        let limit = Timespec {
            tv_sec: limit,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(ring, PollFlags::IN)], Some(&limit)) == Ok(1)
    };
    for _ in 0..3 {
        let read = Operation::Read {
            file: slot,
            offset: 0,
            buffer: BufferSlot::new(0),
            buffer_offset: 0,
            len: 1,
        };
        ring.push(read, 1).unwrap();
        ring.submit().unwrap();
        assert!(!readable(&ring, 0));
        std::io::Write::write_all(&mut writer, b"a").unwrap();
        assert!(readable(&ring, HANG.as_secs() as i64));
        assert_eq!(ring.reap(|done| assert_eq!(done.result, Ok(1))), 1);
        assert!(!readable(&ring, 0));
    }
}
