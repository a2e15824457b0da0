use super::*;
use vyre_uring::BufferSlot;

fn read(len: u32) -> RequestState {
    let transfer = Transfer {
        file: 1,
        file_slot: FileSlot::new(1),
        unbounded: false,
        mapped: false,
        buffer: 2,
        slot: BufferSlot::new(0),
        file_offset: 100,
        buffer_offset: 10,
        len,
        durable: false,
    };
    RequestState {
        admitted: Admitted::Read(transfer),
        ..RequestState::IDLE
    }
}

fn write(len: u32) -> RequestState {
    let Admitted::Read(transfer) = read(len).admitted else {
        unreachable!("a read")
    };
    let durable = true;
    RequestState {
        admitted: Admitted::Write { transfer, durable },
        ..RequestState::IDLE
    }
}

#[test]
fn a_short_transfer_is_resumed_where_it_stopped() {
    let mut request = read(100);
    assert_eq!(request.advance(Ok(30), 1), Next::Resume);
    let Some(Operation::Read {
        offset,
        buffer_offset,
        len,
        ..
    }) = request.admitted.operation()
    else {
        panic!("not a read")
    };
    assert_eq!((offset, buffer_offset, len), (130, 40, 70));
    assert_eq!(request.advance(Ok(70), 1), Next::Finish(Ok(100)));
}

#[test]
fn end_of_file_is_a_count_unless_exact() {
    let mut request = read(100);
    assert_eq!(request.advance(Ok(30), 1), Next::Resume);
    assert_eq!(request.advance(Ok(0), 1), Next::Finish(Ok(30)));
    let mut request = read(100);
    request.exact = true;
    assert_eq!(request.advance(Ok(0), 1), Next::Finish(Err(Errno::ENODATA)));
}

/// Makes a direct-I/O request, at a multiple of its file's alignment.
fn direct(admitted: fn(Transfer) -> Admitted, exact: bool) -> RequestState {
    let Admitted::Read(transfer) = read(8192).admitted else {
        unreachable!("a read")
    };
    RequestState {
        admitted: admitted(Transfer {
            file_offset: 512,
            ..transfer
        }),
        exact,
        ..RequestState::IDLE
    }
}

fn durable(transfer: Transfer) -> Admitted {
    let durable = true;
    Admitted::Write { transfer, durable }
}

#[test]
fn a_direct_transfer_that_stops_off_a_block_goes_on_there() {
    for admitted in [Admitted::Read, durable] {
        let mut request = direct(admitted, true);
        assert_eq!(request.advance(Ok(4096), 512), Next::Resume);
        assert_eq!(request.advance(Ok(1000), 512), Next::Resume);
        let (Some(Operation::Read { offset, len, .. })
        | Some(Operation::Write { offset, len, .. })) = request.admitted.operation()
        else {
            panic!("no transfer")
        };
        assert_eq!((offset, len), (512 + 5096, 8192 - 5096));
        assert_eq!(request.advance(Ok(3096), 512), Next::Finish(Ok(8192)));
    }
}

#[test]
fn a_direct_transfer_ends_where_it_cannot_go_on_off_a_block() {
    for (admitted, last) in [
        (Admitted::Read as fn(_) -> _, Ok(0)),
        (Admitted::Read, Err(OsErrno::INVAL)),
        (durable, Err(OsErrno::INVAL)),
    ] {
        let mut request = direct(admitted, false);
        assert_eq!(request.advance(Ok(1000), 512), Next::Resume);
        assert_eq!(request.advance(last, 512), Next::Finish(Ok(1000)));
        let mut exact = direct(admitted, true);
        assert_eq!(exact.advance(Ok(1000), 512), Next::Resume);
        let ended = Next::Finish(Err(Errno::ENODATA));
        assert_eq!(exact.advance(last, 512), ended);
    }
}

#[test]
fn an_invalid_operation_on_a_block_is_an_error() {
    let invalid = Next::Finish(Err(Errno::EINVAL));
    let mut request = direct(Admitted::Read, true);
    assert_eq!(request.advance(Err(OsErrno::INVAL), 512), invalid);
    let mut request = direct(Admitted::Read, true);
    assert_eq!(request.advance(Ok(4096), 512), Next::Resume);
    assert_eq!(request.advance(Err(OsErrno::INVAL), 512), invalid);
    // A file without an alignment of its own has no such places.
    let mut request = read(100);
    request.exact = true;
    assert_eq!(request.advance(Ok(33), 1), Next::Resume);
    assert_eq!(request.advance(Err(OsErrno::INVAL), 1), invalid);
}

#[test]
fn a_deadline_that_passes_off_a_block_is_told() {
    let mut request = direct(Admitted::Read, false);
    assert_eq!(request.advance(Ok(1000), 512), Next::Resume);
    request.cancelled = Some(Errno::ETIMEDOUT);
    let told = Next::Finish(Err(Errno::ETIMEDOUT));
    assert_eq!(request.advance(Err(OsErrno::INVAL), 512), told);
}

fn prefetch(len: u32) -> RequestState {
    let ahead = ReadAhead {
        file: 1,
        slot: FileSlot::new(0),
        offset: 100,
        len,
        piece: 64,
    };
    RequestState {
        admitted: Admitted::Prefetch(ahead),
        ..RequestState::IDLE
    }
}

#[test]
fn a_prefetch_goes_on_piece_by_piece() {
    let mut request = prefetch(130);
    let mut pieces = Vec::new();
    loop {
        match request.admitted.operation() {
            Some(Operation::Prefetch { offset, len, .. }) => pieces.push((offset, len)),
            other => panic!("{other:?}"),
        }
        match request.advance(Ok(0), 1) {
            Next::Resume => {}
            next => break assert_eq!(next, Next::Finish(Ok(0))),
        }
    }
    assert_eq!(pieces, [(100, 64), (164, 64), (228, 2)]);
    assert_eq!(prefetch(0).advance(Ok(0), 1), Next::Finish(Ok(0)));
}

#[test]
fn a_prefetch_ends_between_pieces_when_it_is_cancelled_or_fails() {
    let mut request = prefetch(130);
    request.cancelled = Some(Errno::ETIMEDOUT);
    let told = Next::Finish(Err(Errno::ETIMEDOUT));
    assert_eq!(request.advance(Ok(0), 1), told);
    let mut request = prefetch(130);
    assert_eq!(request.advance(Ok(0), 1), Next::Resume);
    let failed = Next::Finish(Err(Errno::EIO));
    assert_eq!(request.advance(Err(OsErrno::IO), 1), failed);
}

#[test]
fn the_host_s_own_errnos_are_no_drive_s() {
    for errno in [OsErrno::NODATA, OsErrno::TIMEDOUT, OsErrno::CANCELED] {
        for exact in [false, true] {
            let mut request = read(100);
            request.exact = exact;
            let failed = Next::Finish(Err(Errno::EIO));
            assert_eq!(request.advance(Err(errno), 1), failed, "{errno}");
        }
    }
    let mut request = read(100);
    request.cancelled = Some(Errno::ECANCELED);
    let told = Next::Finish(Err(Errno::ECANCELED));
    assert_eq!(request.advance(Err(OsErrno::CANCELED), 1), told);
}

#[test]
fn a_write_that_moves_nothing_is_an_error() {
    assert_eq!(write(5).advance(Ok(0), 1), Next::Finish(Err(Errno::EIO)));
}

#[test]
fn interruptions_are_retried_but_not_for_ever() {
    for (errno, limit) in [
        (OsErrno::INTR, MAX_INTERRUPTIONS),
        (OsErrno::AGAIN, MAX_REFUSALS),
    ] {
        let mut request = read(5);
        let retried = std::iter::repeat_with(|| request.advance(Err(errno), 1))
            .take_while(|&next| next == Next::Retry)
            .count();
        assert_eq!(retried, usize::from(limit));
    }
}

#[test]
fn an_error_after_some_bytes_is_a_short_count_as_with_pread() {
    let mut request = read(100);
    assert_eq!(request.advance(Ok(30), 1), Next::Resume);
    assert_eq!(request.advance(Err(OsErrno::IO), 1), Next::Finish(Ok(30)));
    let mut request = read(100);
    request.exact = true;
    assert_eq!(request.advance(Ok(30), 1), Next::Resume);
    assert_eq!(
        request.advance(Err(OsErrno::IO), 1),
        Next::Finish(Err(Errno::EIO))
    );
}

#[test]
fn a_cancelled_request_says_why() {
    let mut request = read(100);
    request.cancelled = Some(Errno::ETIMEDOUT);
    assert_eq!(
        request.advance(Err(OsErrno::CANCELED), 1),
        Next::Finish(Err(Errno::ETIMEDOUT))
    );
    let mut request = read(100);
    request.cancelled = Some(Errno::ETIMEDOUT);
    assert_eq!(
        request.advance(Ok(100), 1),
        Next::Finish(Ok(100)),
        "it was faster"
    );
}

#[test]
fn more_than_was_asked_for_is_not_believed() {
    assert_eq!(read(10).advance(Ok(11), 1), Next::Finish(Ok(10)));
}
