//! READs whose bytes a view of their file shows.

use super::*;

#[test]
fn a_read_in_a_view_lands_without_being_read() {
    let mut rig = rig_with_view(plain_sim(), 8192);
    rig.push(read(SLOT, 4096, 4096), 1);
    rig.push(read(PLAIN, 0, 4096), 2);
    rig.push(read(SLOT, 4097, 4096), 3);
    let in_flight = rig.transport.in_flight();
    assert_eq!(in_flight, 3);
    // The buffer without a destination is read into, and so is what reaches past the view.
    assert_eq!(rig.reap(), [(2, Ok(4096))]);
    let moves = rig.moves.borrow();
    assert_eq!(moves.from_view, [(4096, 4096, 4096)]);
    assert_eq!(moves.starts, 1);
    drop(moves);
    rig.end(2);
    assert_eq!(rig.reap(), [(1, Ok(4096)), (3, Ok(4096))]);
    assert_eq!(rig.transport.in_flight(), 0);
}

#[test]
fn a_move_from_a_view_that_is_refused_is_made_by_way_of_the_buffer() {
    let mut rig = rig_with_view(plain_sim(), 8192);
    rig.moves.borrow_mut().refuse_start = true;
    rig.push(read(SLOT, 0, 10), 1);
    rig.moves.borrow_mut().refuse_start = false;
    assert_eq!(rig.reap(), []);
    assert_eq!(rig.moves.borrow().starts, 1);
    rig.end(1);
    assert_eq!(rig.reap(), [(1, Ok(10))]);
}

#[test]
fn a_slot_whose_file_has_no_view_is_read() {
    let mut rig = rig_with_view(plain_sim(), 8192);
    rig.moves.borrow_mut().view = None;
    set_file(&mut rig.transport, tempfile::tempfile().expect("a file"));
    rig.push(read(SLOT, 0, 10), 1);
    assert_eq!(rig.reap(), [(1, Ok(0))]);
    assert_eq!(rig.moves.borrow().from_view, []);
}

#[test]
fn a_move_from_a_view_is_not_cancelled() {
    let mut rig = rig_with_view(plain_sim(), 8192);
    let token = rig.transport.push(read(SLOT, 0, 10), 1).expect("room");
    assert!(rig.transport.cancel(token), "in flight");
    assert_eq!(rig.reap(), []);
    let busy = RegisterError::Busy { in_flight: 1 };
    assert_eq!(rig.transport.set_buffer(SLOT, None), Err(busy));
    rig.end(1);
    rig.push(read(SLOT, 10, 10), 2);
    assert!(rig.transport.cancel(token), "not yet reaped");
    assert_eq!(rig.reap(), [(1, Ok(10))]);
    assert!(!rig.transport.cancel(token), "another one is moving");
}
