//! Transfers in every combination of registered and plain files and buffers, and by threads.

mod common;

use std::io::Write;
use std::os::unix::fs::FileExt;

use common::*;
use vyre_uring::{BufferSlot, Errno, FileSlot, Operation, PushError, Transport};

#[test]
fn reads_return_what_was_written() {
    for builder in modes() {
        let file = tempfile::tempfile().unwrap();
        let (mut ring, buffer) = ring_with(builder, &file, 16 << 10);
        let data = pattern(6000);
        buffer.write_at(100, &data).unwrap();
        assert_eq!(run(&mut ring, write(50, 100, 6000)).result, Ok(6000));
        let mut on_disk = vec![0; 6000];
        file.read_exact_at(&mut on_disk, 50).unwrap();
        assert_eq!(on_disk, data);

        assert_eq!(run(&mut ring, read(51, 9001, 5000)).result, Ok(5000));
        assert_eq!(contents(&buffer, 9001, 5000), data[1..5001]);
        assert_eq!(
            contents(&buffer, 9000, 1),
            [0],
            "a byte before the range was touched"
        );
        assert_eq!(
            contents(&buffer, 14_001, 1),
            [0],
            "a byte after the range was touched"
        );
        assert_eq!(strays(&ring), 0);
    }
}

#[test]
fn durable_writes_syncs_and_prefetches_complete() {
    for builder in modes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(8192)).unwrap();
        let (mut ring, buffer) = ring_with(builder, &file, 4096);
        buffer.write_at(0, b"durable").unwrap();
        let op = Operation::Write {
            file: FILE,
            offset: 1,
            buffer: BUFFER,
            buffer_offset: 0,
            len: 7,
            durable: true,
        };
        assert_eq!(run(&mut ring, op).result, Ok(7));
        let mut on_disk = [0; 7];
        file.read_exact_at(&mut on_disk, 1).unwrap();
        assert_eq!(&on_disk, b"durable");
        for data_only in [false, true] {
            assert_eq!(
                run(
                    &mut ring,
                    Operation::Sync {
                        file: FILE,
                        data_only
                    }
                )
                .result,
                Ok(0)
            );
        }
        for len in [0, 8192] {
            let op = Operation::Prefetch {
                file: FILE,
                offset: 0,
                len,
            };
            assert_eq!(run(&mut ring, op).result, Ok(0));
        }
    }
}

#[test]
fn a_read_at_the_end_of_the_file_is_short_then_empty() {
    for builder in modes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(100)).unwrap();
        let (mut ring, buffer) = ring_with(builder, &file, 4096);
        assert_eq!(run(&mut ring, read(60, 0, 4096)).result, Ok(40));
        assert_eq!(contents(&buffer, 0, 40), pattern(100)[60..]);
        assert_eq!(run(&mut ring, read(100, 0, 4096)).result, Ok(0));
        assert_eq!(run(&mut ring, read(0, 0, 0)).result, Ok(0));
        assert_eq!(
            run(&mut ring, read(0, 4096, 0)).result,
            Ok(0),
            "nothing, at the very end"
        );
    }
}

#[test]
fn the_kernels_errno_is_passed_on() {
    for builder in modes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("read-only");
        std::fs::write(&path, b"x").unwrap();
        let (mut ring, _) = ring_with(builder, &std::fs::File::open(&path).unwrap(), 4096);
        assert_eq!(run(&mut ring, write(0, 0, 1)).result, Err(Errno::BADF));
        assert_eq!(
            run(&mut ring, read(0, 0, 1)).result,
            Ok(1),
            "the ring must go on"
        );
    }
}

#[test]
fn bad_operands_are_refused_and_leave_nothing_in_flight() {
    for builder in modes() {
        let file = tempfile::tempfile().unwrap();
        let (mut ring, _) = ring_with(builder.slots(2), &file, 4096);
        let max = i64::MAX as u64;
        for op in [
            read(0, 0, 4097),
            read(0, 4096, 1),
            read(0, u64::MAX, 1),
            write(0, 1, 4096),
            read(u64::MAX, 0, 1),
            read(u64::MAX, 0, 0),
            write(max, 0, 1),
            Operation::Prefetch {
                file: FILE,
                offset: max,
                len: 1,
            },
        ] {
            assert_eq!(ring.push(op, 0), Err(PushError::OutOfRange), "{op:?}");
        }
        for index in [1, 2, u32::MAX] {
            let slot = FileSlot::new(index);
            let op = Operation::Sync {
                file: slot,
                data_only: false,
            };
            assert_eq!(ring.push(op, 0), Err(PushError::UnknownFile(slot)));
            let slot = BufferSlot::new(index);
            let op = Operation::Read {
                file: FILE,
                offset: 0,
                buffer: slot,
                buffer_offset: 0,
                len: 1,
            };
            assert_eq!(ring.push(op, 0), Err(PushError::UnknownBuffer(slot)));
        }
        assert_eq!(ring.in_flight(), 0);
        assert_eq!(ring.submit(), Ok(0));
        assert_eq!(run(&mut ring, read(0, 0, 1)).result, Ok(0));
    }
}

#[test]
fn ten_times_the_capacity_completes() {
    for builder in modes() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&pattern(64 << 10), 0).unwrap();
        let (mut ring, buffer) = ring_with(builder, &file, 64 << 10);
        let total = u64::from(ring.capacity()) * 10;
        let (mut pushed, mut seen) = (0, vec![0u32; total as usize]);
        let mut refused = 0;
        while seen.contains(&0) {
            while pushed < total {
                let at = pushed * 512;
                match ring.push(read(at, at, 512), pushed) {
                    Ok(_) => pushed += 1,
                    Err(PushError::Full) => {
                        assert_eq!(ring.in_flight(), ring.capacity());
                        refused += 1;
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            ring.wait(None).unwrap();
            ring.reap(|completion| {
                assert_eq!(completion.result, Ok(512));
                seen[completion.user as usize] += 1;
            });
        }
        assert!(refused > 0, "the ring was never full");
        assert!(seen.iter().all(|&count| count == 1), "{seen:?}");
        assert_eq!(ring.in_flight(), 0);
        assert_eq!(
            contents(&buffer, 0, total as usize * 512),
            pattern(total as usize * 512)
        );
    }
}

#[test]
fn slots_can_be_refilled() {
    for builder in modes() {
        let (one, two) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        one.write_all_at(b"one", 0).unwrap();
        two.write_all_at(b"two", 0).unwrap();
        let (mut ring, first) = ring_with(builder, &one, 4096);
        assert_eq!(run(&mut ring, read(0, 0, 3)).result, Ok(3));
        let second = vyre_uring::Buffer::anonymous(4096).unwrap();
        ring.set_file(FILE, Some(owned(&two))).unwrap();
        ring.set_buffer(BUFFER, Some(second.clone())).unwrap();
        assert_eq!(run(&mut ring, read(0, 0, 3)).result, Ok(3));
        assert_eq!(contents(&first, 0, 3), b"one");
        assert_eq!(contents(&second, 0, 3), b"two");
        ring.set_file(FILE, None).unwrap();
        assert_eq!(
            ring.push(read(0, 0, 3), 0),
            Err(PushError::UnknownFile(FILE))
        );
        ring.set_file(FILE, Some(owned(&two))).unwrap();
        ring.set_buffer(BUFFER, None).unwrap();
        assert_eq!(
            ring.push(read(0, 0, 3), 0),
            Err(PushError::UnknownBuffer(BUFFER))
        );
    }
}
