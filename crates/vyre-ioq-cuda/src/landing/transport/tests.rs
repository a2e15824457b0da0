//! Against the simulated transport, with moves that happen when the test says so.

mod ends;
mod views;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;

use vyre_ioloop::{BufferTable, Engine, FileTable, Rights};
use vyre_ioq::{DeviceQueue, LoopState, Queue, QueueLayout, Request, Ticket};
use vyre_uring::{Errno, SimTransport};

use super::super::mover::MoveError;
use super::*;

const SLOT: BufferSlot = BufferSlot::new(0);
/// A buffer without a destination.
const PLAIN: BufferSlot = BufferSlot::new(1);
const FILE: FileSlot = FileSlot::new(0);
const LEN: usize = 64 << 10;

/// The moves that were asked for, and those that were made.
#[derive(Default)]
struct Moves {
    /// The moves in no batch: offset and length.
    started: Vec<(u64, u32)>,
    /// The number of moves started so far.
    starts: u32,
    /// The batches, the oldest first.
    batches: VecDeque<Vec<(u64, u32)>>,
    /// The number of batches that may end now.
    may_end: u32,
    /// The largest number of batches under way.
    room: usize,
    refuse_start: bool,
    refuse_batch: bool,
    fail_batch: bool,
    /// The destination behind the buffer.
    landed: Vec<u8>,
    /// The length of the view of the file, from its start, if there is one.
    view: Option<u64>,
    /// The moves from the view: offset in the file, offset in the destination, and length.
    from_view: Vec<(u64, u64, u32)>,
}

/// Moves from a buffer to a vector.
#[derive(Clone)]
struct Hand {
    host: Buffer,
    moves: Rc<RefCell<Moves>>,
}

impl Mover for Hand {
    fn destination(&self, buffer: &Buffer) -> Option<u32> {
        self.host.same_memory(buffer).then_some(7)
    }

    fn start(&mut self, destination: u32, offset: u64, len: u32) -> Result<(), MoveError> {
        assert_eq!(destination, 7);
        let mut moves = self.moves.borrow_mut();
        if moves.refuse_start {
            return Err(MoveError);
        }
        moves.starts += 1;
        moves.started.push((offset, len));
        Ok(())
    }

    fn view_of(&self, _: &OwnedFd) -> Option<u32> {
        self.moves.borrow().view.map(|_| 3)
    }

    fn start_from_view(
        &mut self,
        view: u32,
        from: u64,
        destination: u32,
        offset: u64,
        len: u32,
    ) -> Result<bool, MoveError> {
        assert_eq!((view, destination), (3, 7));
        let mut moves = self.moves.borrow_mut();
        if moves.refuse_start {
            return Err(MoveError);
        }
        if moves.view.is_none_or(|end| from + u64::from(len) > end) {
            return Ok(false);
        }
        moves.from_view.push((from, offset, len));
        moves.started.push((offset, len));
        Ok(true)
    }

    fn close_batch(&mut self) -> Result<bool, MoveError> {
        let mut moves = self.moves.borrow_mut();
        assert!(!moves.started.is_empty(), "a batch of nothing");
        if moves.refuse_batch {
            return Err(MoveError);
        }
        if moves.batches.len() == moves.room {
            return Ok(false);
        }
        let batch = std::mem::take(&mut moves.started);
        moves.batches.push_back(batch);
        Ok(true)
    }

    fn has_ended(&mut self) -> Result<bool, MoveError> {
        let mut moves = self.moves.borrow_mut();
        if moves.may_end == 0 {
            return Ok(false);
        }
        moves.may_end -= 1;
        let batch = moves.batches.pop_front().expect("asked about one");
        if moves.fail_batch {
            return Err(MoveError);
        }
        for (offset, len) in batch {
            let range = offset as usize..offset as usize + len as usize;
            let to = &mut moves.landed[range];
            self.host.read_at(offset as usize, to).expect("inside");
        }
        Ok(true)
    }
}

struct Rig {
    transport: LandingTransport<SimTransport, Hand>,
    moves: Rc<RefCell<Moves>>,
    host: Buffer,
    contents: Vec<u8>,
}

fn rig(sim: SimTransport) -> Rig {
    rig_of(sim, None)
}

/// Returns a rig whose file has a view of this many bytes, from its start.
fn rig_with_view(sim: SimTransport, bytes: u64) -> Rig {
    rig_of(sim, Some(bytes))
}

fn rig_of(sim: SimTransport, view: Option<u64>) -> Rig {
    let contents: Vec<u8> = (0..LEN).map(|at| (at / 256) as u8 ^ at as u8).collect();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&contents).expect("room");
    let host = Buffer::anonymous(LEN).expect("memory");
    let moves = Rc::new(RefCell::new(Moves {
        room: 2,
        landed: vec![0xee; LEN],
        view,
        ..Moves::default()
    }));
    let hand = Hand {
        host: host.clone(),
        moves: moves.clone(),
    };
    let mut transport = LandingTransport::new(sim, hand);
    set_file(&mut transport, file);
    transport
        .set_buffer(SLOT, Some(host.clone()))
        .expect("a slot");
    let plain = Buffer::anonymous(LEN).expect("memory");
    transport.set_buffer(PLAIN, Some(plain)).expect("a slot");
    Rig {
        transport,
        moves,
        host,
        contents,
    }
}

fn set_file(transport: &mut impl Transport, file: File) {
    let file = Arc::new(OwnedFd::from(file));
    transport.set_file(FILE, Some(file)).expect("a slot");
}

/// Returns a read of so many bytes at `at`, to the same offset of the buffer.
fn read(buffer: BufferSlot, at: u64, len: u32) -> Operation {
    Operation::Read {
        file: FILE,
        offset: at,
        buffer,
        buffer_offset: at,
        len,
    }
}

impl Rig {
    fn push(&mut self, op: Operation, user: u64) -> Token {
        self.transport.push(op, user).expect("room")
    }

    /// Submits and reaps once. Returns each user's word and result.
    fn reap(&mut self) -> Vec<(u64, Result<u32, Errno>)> {
        self.transport.submit().expect("no fault");
        let mut found = Vec::new();
        let count = self.transport.reap(|it| found.push((it.user, it.result)));
        assert_eq!(count as usize, found.len());
        found
    }

    fn end(&self, batches: u32) {
        self.moves.borrow_mut().may_end += batches;
    }
}

fn plain_sim() -> SimTransport {
    SimTransport::builder(1).capacity(4).build()
}

#[test]
fn a_read_completes_once_its_bytes_have_landed() {
    let mut rig = rig(plain_sim());
    rig.push(read(SLOT, 4096, 100), 50);
    assert_eq!(rig.reap(), []);
    assert_eq!(rig.reap(), [], "nobody has said that the move has ended");
    assert_eq!(rig.transport.in_flight(), 1);
    let busy = rig.transport.set_buffer(SLOT, None);
    assert_eq!(busy, Err(RegisterError::Busy { in_flight: 1 }));
    rig.end(1);
    assert_eq!(rig.reap(), [(50, Ok(100))]);
    let moves = rig.moves.borrow();
    assert_eq!(moves.landed[4096..4196], rig.contents[4096..4196]);
    assert_eq!((moves.landed[4095], moves.landed[4196]), (0xee, 0xee));
    assert_eq!(rig.transport.in_flight(), 0);
    drop(moves);
    assert_eq!(rig.transport.set_buffer(SLOT, None), Ok(()));
}

#[test]
fn one_reap_makes_one_batch_and_completes_it_whole() {
    let mut rig = rig(plain_sim());
    for user in 0..3 {
        rig.push(read(SLOT, user * 4096, 4096), user);
    }
    assert_eq!(rig.reap(), []);
    assert_eq!(rig.moves.borrow().batches.len(), 1);
    rig.end(1);
    let all: Vec<_> = (0..3).map(|user| (user, Ok(4096))).collect();
    assert_eq!(rig.reap(), all);
    assert_eq!(
        rig.moves.borrow().landed[..3 * 4096],
        rig.contents[..3 * 4096]
    );
}

#[test]
fn operations_that_do_not_land_complete_at_once() {
    let mut rig = rig(plain_sim());
    let write = Operation::Write {
        file: FILE,
        offset: LEN as u64,
        buffer: SLOT,
        buffer_offset: 0,
        len: 10,
        durable: false,
    };
    rig.push(read(PLAIN, 0, 10), 1);
    rig.push(read(SLOT, LEN as u64 - 10, 10), 2);
    rig.push(write, 3);
    let sync = Operation::Sync {
        file: FILE,
        data_only: true,
    };
    rig.push(sync, 4);
    assert_eq!(rig.reap(), [(1, Ok(10)), (3, Ok(10)), (4, Ok(0))]);
    // Nothing was read at the end of the file, so nothing has to land.
    let end = Operation::Read {
        file: FILE,
        offset: 1 << 30,
        buffer: SLOT,
        buffer_offset: 0,
        len: 10,
    };
    rig.push(end, 5);
    assert_eq!(rig.reap(), [(5, Ok(0))]);
    rig.end(1);
    assert_eq!(rig.reap(), [(2, Ok(10))]);
}

#[test]
fn with_all_batches_under_way_moves_wait_and_form_one_batch() {
    let mut rig = rig(plain_sim());
    for user in 0..4 {
        rig.push(read(SLOT, user * 4096, 4096), user);
        assert_eq!(rig.reap(), []);
    }
    assert_eq!(rig.moves.borrow().batches.len(), 2);
    assert_eq!(rig.moves.borrow().started.len(), 2);
    let op = read(SLOT, 0, 1);
    assert_eq!(rig.transport.push(op, 9), Err(PushError::Full));
    rig.end(1);
    assert_eq!(rig.reap(), [(0, Ok(4096))]);
    assert_eq!(rig.moves.borrow().batches.len(), 2, "the two went together");
    rig.end(2);
    assert_eq!(rig.reap(), [(1, Ok(4096)), (2, Ok(4096)), (3, Ok(4096))]);
    assert_eq!(rig.moves.borrow().landed[..16384], rig.contents[..16384]);
}

#[test]
fn a_move_that_fails_is_an_error_of_its_read() {
    let mut rig = rig(plain_sim());
    rig.moves.borrow_mut().refuse_start = true;
    rig.push(read(SLOT, 0, 10), 1);
    assert_eq!(rig.reap(), [(1, Err(Errno::IO))]);
    rig.moves.borrow_mut().refuse_start = false;

    rig.push(read(SLOT, 0, 10), 2);
    assert_eq!(rig.reap(), []);
    // The one before is under way and is not lost.
    rig.moves.borrow_mut().refuse_batch = true;
    rig.push(read(SLOT, 0, 10), 3);
    assert_eq!(rig.reap(), [(3, Err(Errno::IO))]);
    rig.moves.borrow_mut().refuse_batch = false;
    rig.moves.borrow_mut().started.clear();

    rig.moves.borrow_mut().fail_batch = true;
    rig.end(1);
    assert_eq!(rig.reap(), [(2, Err(Errno::IO))]);
    rig.moves.borrow_mut().fail_batch = false;

    rig.push(read(SLOT, 0, 10), 4);
    rig.end(1);
    assert_eq!((rig.reap(), rig.reap()), (vec![], vec![(4, Ok(10))]));
}

#[test]
fn errors_of_the_inner_transport_are_passed_on() {
    let mut sim = plain_sim();
    sim.fail_next(Errno::NOSPC);
    let mut rig = rig(sim);
    let token = rig.push(read(SLOT, 0, 10), 1);
    assert_eq!(rig.reap(), [(1, Err(Errno::NOSPC))]);
    assert!(!rig.transport.cancel(token), "it is no longer in flight");
    let nowhere = read(BufferSlot::new(99), 0, 10);
    let refused = rig.transport.push(nowhere, 2);
    assert_eq!(refused, Err(PushError::UnknownBuffer(BufferSlot::new(99))));
    assert_eq!(rig.transport.in_flight(), 0);
}

#[test]
fn a_wait_ends_soon_while_something_lands() {
    let mut rig = rig(plain_sim());
    rig.push(read(SLOT, 0, 10), 1);
    assert_eq!(rig.reap(), []);
    let began = Instant::now();
    let long = Some(Duration::from_secs(3600));
    rig.transport.wait(long).expect("no fault");
    rig.end(1);
    rig.transport.wait(long).expect("no fault");
    assert!(began.elapsed() < Duration::from_secs(1800));
    // The wait has found it.
    let mut users = Vec::new();
    rig.transport.reap(|it| users.push(it.user));
    assert_eq!(users, [1]);
}

#[test]
fn quiesce_waits_for_moves_too() {
    let mut rig = rig(SimTransport::builder(5).capacity(4).build());
    rig.push(read(SLOT, 0, 10), 1);
    assert_eq!(rig.reap(), []);
    let deadline = Duration::from_millis(1);
    let busy = rig.transport.quiesce(deadline);
    assert_eq!(busy, Err(Busy::new(1)));
    // What the transport still had is moved as well, and not by the next reap.
    for user in 2..5 {
        rig.push(read(SLOT, user * 4096, 10), user);
    }
    rig.end(2);
    assert_eq!(rig.transport.quiesce(Duration::from_secs(60)), Ok(()));
    let starts = rig.moves.borrow().starts;
    assert!(starts > 1, "this seed cancels them all");
    let found = rig.reap();
    assert_eq!(rig.moves.borrow().starts, starts);
    assert_eq!(found[0], (1, Ok(10)));
    assert_eq!(found.len(), 4, "each is answered: {found:?}");
}

/// Many reads are shortened, failed, delayed and reordered. Each completes once, with its own bytes.
#[test]
fn whatever_the_inner_transport_does_each_read_completes_once() {
    for seed in 0..20 {
        let sim = SimTransport::builder(seed)
            .capacity(8)
            .max_latency(3)
            .reorder(true)
            .short(0.3)
            .interrupted(0.1)
            .errno(Errno::IO, 0.1)
            .build();
        let mut rig = rig(sim);
        let (mut asked, mut answered) = (0, Vec::new());
        while answered.len() < 300 {
            while asked < 300 {
                let at = asked * 997 % 16 * 4096;
                match rig.transport.push(read(SLOT, at, 4096), asked) {
                    Ok(_) => asked += 1,
                    Err(error) => {
                        assert_eq!(error, PushError::Full);
                        break;
                    }
                }
            }
            let waiting = rig.moves.borrow().batches.len() as u32;
            rig.end(waiting);
            for (user, result) in rig.reap() {
                answered.push(user);
                let Ok(len) = result else { continue };
                let at = (user * 997 % 16 * 4096) as usize;
                let range = at..at + len as usize;
                let moves = rig.moves.borrow();
                assert_eq!(moves.landed[range.clone()], rig.contents[range]);
            }
            rig.moves.borrow_mut().may_end = 0;
        }
        answered.sort_unstable();
        assert!(answered.iter().copied().eq(0..300), "seed {seed}");
        assert_eq!(rig.transport.in_flight(), 0);
        drop(rig.host);
    }
}

/// A READ through an engine whose move is under way.
struct Served {
    engine: Engine<LandingTransport<SimTransport, Hand>>,
    moves: Rc<RefCell<Moves>>,
    device: DeviceQueue,
    ticket: Ticket,
}

fn served() -> Served {
    let Rig { moves, host, .. } = rig(plain_sim());
    let hand = Hand {
        host: host.clone(),
        moves: moves.clone(),
    };
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&[7; 100]).expect("room");
    let file = files.insert(file, Rights::READ).expect("room");
    let pool = buffers.insert(host).expect("room");
    let (queue, device) = Queue::anonymous(QueueLayout::with_slots(4)).expect("memory");
    let transport = LandingTransport::new(plain_sim(), hand);
    let mut engine = Engine::new(transport, files, buffers, vec![queue]).expect("accepted");
    let read = Request::read(file, 0, 100).into_buffer(pool, 0);
    let ticket = device.submit(read).expect("a slot");
    while moves.borrow().starts == 0 {
        let _ = engine.step();
    }
    Served {
        engine,
        moves,
        device,
        ticket,
    }
}

#[test]
fn held_reads_are_in_flight_until_they_are_reaped() {
    let mut rig = rig(plain_sim());
    rig.push(read(SLOT, 0, 10), 1);
    assert_eq!(rig.reap(), []);
    rig.push(read(PLAIN, 0, 10), 2);
    assert_eq!(rig.transport.in_flight(), 2);
    let began = Instant::now();
    for _ in 0..2 {
        let busy = rig.transport.quiesce(Duration::from_millis(2));
        assert_eq!(busy, Err(Busy::new(1)), "its move has not ended");
        assert_eq!(rig.transport.in_flight(), 2, "nothing was reaped");
    }
    assert!(
        began.elapsed() < Duration::from_secs(1800),
        "each wait has a bound"
    );
    let found = rig.reap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, 2, "the other's move has not ended");
    assert_eq!((rig.reap(), rig.transport.in_flight()), (vec![], 1));
    rig.end(1);
    assert_eq!(rig.transport.quiesce(Duration::from_secs(60)), Ok(()));
    assert_eq!(rig.transport.in_flight(), 1, "to be reaped");
    assert_eq!(
        (rig.reap(), rig.transport.in_flight()),
        (vec![(1, Ok(10))], 0)
    );
}
