//! The end of a loop while blocks are being moved.

use super::*;

#[test]
fn a_read_whose_move_does_not_end_gets_no_outcome() {
    let Served {
        mut engine,
        moves,
        device,
        ticket,
    } = served();
    let busy = engine.stop(Duration::from_millis(1));
    assert_eq!(busy, Err(Busy::new(1)));
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    assert_eq!(engine.outstanding(), 1);
    assert_eq!(device.poll(&ticket), None);
    // The move may still write to its destination, so the device may not use the block.
    moves.borrow_mut().may_end = 1;
    assert_eq!(engine.stop(Duration::from_secs(60)), Ok(()));
    assert_eq!(
        device.poll(&ticket),
        None,
        "there are no outcomes after FAILED"
    );
}

#[test]
fn a_read_whose_move_ends_before_the_loop_gets_its_outcome() {
    let Served {
        mut engine,
        moves,
        device,
        ticket,
    } = served();
    moves.borrow_mut().may_end = 1;
    assert_eq!(engine.stop(Duration::from_secs(60)), Ok(()));
    assert_eq!(device.host_state(), Some(LoopState::Stopped));
    let Some(outcome) = device.poll(&ticket) else {
        panic!("it has landed, and no outcome says so");
    };
    assert_eq!(outcome.bytes(), Ok(100));
    assert_eq!(moves.borrow().landed[..100], [7; 100]);
}
