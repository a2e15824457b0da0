//! The mapper, step by step, with pages that a test can take away.

use super::super::asks::{Answer, Asked, Port, Room};
use super::super::fake::{Call, Fake};
use super::*;

const COUNT: u32 = 100;
const MOST: u32 = 8;

struct Rig {
    mapper: Mapper<Fake>,
    pages: Fake,
    board: Arc<Board>,
    port: Arc<Port>,
    _room: Room,
}

fn rig(ahead: u32) -> Rig {
    let board = Arc::new(Board::new(COUNT));
    let port = Port::new(32, None);
    let pages = Fake::default();
    Rig {
        _room: board.room(32, &port),
        mapper: Mapper::new(Arc::clone(&board), pages.clone(), MOST, ahead),
        pages,
        board,
        port,
    }
}

impl Rig {
    fn ask(&self, windows: Range<u32>, number: u64) -> Asked {
        self.board.ask(windows, number, &self.port)
    }

    /// Lets the mapper work until nothing is asked for and nothing is mapped ahead. Returns its calls.
    fn work(&mut self) -> Vec<Call> {
        while self.mapper.step() {}
        self.pages.calls()
    }

    fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        self.port.take(|answer| answers.push(answer));
        answers.sort_by_key(|answer| answer.0);
        answers
    }
}

#[test]
fn a_window_is_mapped_once_and_is_a_hit_from_then_on() {
    let mut rig = rig(0);
    assert_eq!(rig.ask(5..6, 1), Asked::Queued);
    assert_eq!(rig.work(), [Call::Pin(5..6)]);
    assert_eq!(rig.answers(), [(1, Ok(()))]);
    assert_eq!(rig.ask(5..6, 2), Asked::Mapped);
    assert_eq!(rig.work(), []);
    assert_eq!(rig.answers(), []);
}

#[test]
fn neighbours_that_are_asked_for_together_are_one_call() {
    let mut rig = rig(0);
    for (number, window) in [12, 10, 40, 11, 9].into_iter().enumerate() {
        rig.ask(window..window + 1, number as u64);
    }
    assert_eq!(rig.work(), [Call::Pin(9..13), Call::Pin(40..41)]);
    assert_eq!(rig.answers().len(), 5);
}

#[test]
fn a_call_maps_no_more_than_its_limit_and_others_have_a_turn_between() {
    let mut rig = rig(0);
    rig.ask(0..20, 1);
    rig.ask(50..51, 2);
    let calls = [
        Call::Pin(0..8),
        Call::Pin(50..51),
        Call::Pin(8..16),
        Call::Pin(16..20),
    ];
    assert_eq!(rig.work(), calls);
    assert_eq!(rig.answers(), [(1, Ok(())), (2, Ok(()))]);
}

#[test]
fn a_request_beside_mapped_windows_maps_the_rest() {
    let mut rig = rig(0);
    rig.ask(3..5, 1);
    rig.work();
    rig.ask(0..8, 2);
    assert_eq!(rig.work(), [Call::Pin(0..3), Call::Pin(5..8)]);
}

#[test]
fn windows_in_sequence_are_mapped_ahead_after_those_that_are_asked_for() {
    let mut rig = rig(16);
    rig.ask(0..1, 1);
    assert_eq!(rig.work(), [Call::Pin(0..1)]);
    rig.ask(1..2, 2);
    assert_eq!(rig.work(), [Call::Pin(1..2), Call::Pin(2..4)]);
    // A hit continues the sequence.
    assert_eq!(rig.ask(2..3, 3), Asked::Mapped);
    assert_eq!(rig.work(), [Call::Pin(4..7)]);
    rig.ask(90..91, 4);
    rig.ask(7..8, 5);
    let calls = rig.work();
    assert_eq!(calls[..2], [Call::Pin(90..91), Call::Pin(7..8)]);
    assert_eq!(calls[2..], [Call::Pin(8..16)]);
    assert_eq!(
        rig.board
            .counts
            .ahead
            .load(std::sync::atomic::Ordering::Relaxed),
        2 + 3 + 8
    );
}

/// A loop looks at a window, the thread maps it, and only then the loop asks.
#[test]
fn a_window_that_was_mapped_meanwhile_is_not_mapped_again() {
    let mut rig = rig(0);
    rig.ask(5..7, 1);
    rig.ask(5..6, 2);
    rig.board.set_mapped(5..6);
    assert_eq!(rig.work(), [Call::Pin(6..7)]);
    assert_eq!(rig.answers(), [(1, Ok(())), (2, Ok(()))]);
}

#[test]
fn mapping_ahead_passes_over_what_is_mapped() {
    let mut rig = rig(16);
    rig.ask(0..1, 1);
    rig.ask(2..4, 2);
    rig.work();
    rig.ask(1..2, 3);
    // Two windows ahead are mapped already.
    assert_eq!(rig.work(), [Call::Pin(1..2)]);
    assert_eq!(rig.ask(2..4, 4), Asked::Mapped);
    assert_eq!(rig.work(), [Call::Pin(4..8)]);
}

#[test]
fn cold_windows_are_read_ahead_and_mapped_after_the_others() {
    let mut rig = rig(0);
    rig.pages.state().cold.extend([10, 11, 12, 13, 14, 30]);
    rig.ask(10..15, 1);
    rig.ask(30..31, 2);
    rig.ask(60..61, 3);
    let calls = [
        Call::ReadAhead(10..15),
        Call::ReadAhead(30..31),
        Call::Pin(60..61),
        Call::Fill(10..14),
        Call::Pin(10..14),
    ];
    let done = rig.work();
    assert_eq!(done[..5], calls);
    assert_eq!(rig.answers(), [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
}

/// The driver would wait for the drive, and with it whoever asks for something that is there.
#[test]
fn a_call_maps_no_cold_neighbours_of_what_is_in_memory() {
    let mut rig = rig(0);
    rig.pages.state().cold.extend([8, 13]);
    for window in 7..16 {
        rig.ask(window..window + 1, u64::from(window));
    }
    // One that was asked for first, and so is the middle of a run.
    rig.board.forget(7, &rig.port);
    rig.ask(7..8, 7);
    let calls = rig.work();
    let hot: Vec<_> = calls
        .iter()
        .take_while(|call| !matches!(call, Call::Fill(_)))
        .collect();
    for call in hot {
        if let Call::Pin(windows) = call {
            assert!(!windows.contains(&8) && !windows.contains(&13), "{calls:?}");
        }
    }
    assert_eq!(rig.answers().len(), 9);
}

#[test]
fn mapping_ahead_ends_before_what_is_not_in_memory() {
    let mut rig = rig(16);
    rig.pages.state().cold.extend([3, 4, 5, 6, 7, 8, 9, 10, 11]);
    rig.ask(0..1, 1);
    rig.work();
    rig.ask(1..2, 2);
    let calls = [
        Call::Pin(1..2),
        Call::Pin(2..3),
        Call::ReadAhead(3..4),
        Call::Fill(3..4),
        Call::Pin(3..4),
    ];
    assert_eq!(rig.work(), calls);
}

#[test]
fn the_room_of_a_transport_goes_with_it_and_so_do_its_requests() {
    let mut rig = rig(0);
    let port = Port::new(3, None);
    let room = rig.board.room(3, &port);
    for number in 0..35 {
        let port = if number < 3 { &port } else { &rig.port };
        assert_eq!(rig.board.ask(5..6, number, port), Asked::Queued);
    }
    assert_eq!(rig.ask(6..7, 40), Asked::Full);
    drop(room);
    assert_eq!(rig.board.asks().queue.len(), 32);
    assert_eq!(rig.ask(6..7, 40), Asked::Full, "its room is gone, too");
    rig.work();
    assert_eq!(rig.answers().len(), 32);
    port.take(|answer| panic!("nobody waits for {answer:?}"));
}

#[test]
fn at_the_limit_each_request_gets_what_there_is_room_for() {
    let mut rig = rig(16);
    rig.pages.state().room = Some(2);
    rig.ask(0..3, 1);
    rig.ask(50..51, 2);
    rig.work();
    let answers = rig.answers();
    let refused = answers
        .iter()
        .filter(|answer| answer.1 == Err(Errno::NOBUFS));
    assert_eq!((answers.len(), refused.count()), (2, 1), "{answers:?}");
    // What is mapped stays, and what was refused can be asked for again.
    rig.pages.state().room = None;
    assert_eq!(rig.ask(0..3, 3), Asked::Queued);
    rig.work();
    assert_eq!(rig.answers(), [(3, Ok(()))]);
}

#[test]
fn a_broken_window_fails_its_requests_and_no_others() {
    let mut rig = rig(16);
    rig.pages.state().broken.insert(5);
    for (number, window) in [4, 5, 6, 5].into_iter().enumerate() {
        rig.ask(window..window + 1, number as u64);
    }
    rig.work();
    let failed = Err(Errno::IO);
    let expected = [(0, Ok(())), (1, failed), (2, Ok(())), (3, failed)];
    assert_eq!(rig.answers(), expected);
}

#[test]
fn a_failure_ahead_of_a_sequence_is_nobodys() {
    let mut rig = rig(16);
    rig.pages.state().broken.insert(3);
    rig.ask(0..1, 1);
    rig.work();
    rig.ask(1..2, 2);
    rig.work();
    assert_eq!(rig.answers(), [(1, Ok(())), (2, Ok(()))]);
}

#[test]
fn a_request_that_is_forgotten_is_not_served() {
    let mut rig = rig(0);
    rig.ask(5..6, 1);
    rig.ask(7..8, 2);
    rig.board.forget(1, &rig.port);
    rig.board.forget(2, &Port::new(1, None));
    assert_eq!(rig.work(), [Call::Pin(7..8)]);
}

#[test]
fn requests_beyond_the_room_are_refused_at_once() {
    let rig = rig(0);
    for number in 0..32 {
        assert_eq!(rig.ask(0..1, number), Asked::Queued);
    }
    assert_eq!(rig.ask(0..1, 32), Asked::Full);
}

#[test]
fn the_end_of_the_thread_answers_all_and_refuses_what_comes() {
    let rig = rig(0);
    rig.ask(5..6, 1);
    let Rig {
        mapper,
        board,
        port,
        ..
    } = rig;
    board.close();
    let mut mapper = mapper;
    mapper.run();
    drop(mapper);
    let mut answers = Vec::new();
    port.take(|answer| answers.push(answer));
    assert_eq!(answers, [(1, Err(Errno::OPNOTSUPP))]);
    assert_eq!(board.ask(7..8, 2, &port), Asked::Closed);
}

#[test]
fn a_thread_that_sleeps_is_woken_by_each_request() {
    let board = Arc::new(Board::new(COUNT));
    let port = Port::new(1, None);
    let _room = board.room(1, &port);
    let thread = std::thread::spawn({
        let board = Arc::clone(&board);
        // Made here, since the fake is of one thread.
        move || Mapper::new(board, Fake::default(), MOST, 4).run()
    });
    for number in 0..50 {
        let window = number as u32;
        assert_eq!(board.ask(window..window + 1, number, &port), Asked::Queued);
        let mut done = false;
        while !done {
            std::thread::yield_now();
            port.take(|answer| {
                assert_eq!(answer, (number, Ok(())));
                done = true;
            });
        }
        if number % 10 == 0 {
            // Longer than it spins.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // Only requests that wait are followed here.
        let after = board.first_unmapped(0..COUNT);
        if after > window + 1 {
            break;
        }
    }
    board.close();
    thread.join().unwrap();
}
