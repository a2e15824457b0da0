//! Both sides of the handshake, with hostile packets between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vyre_io_client::protocol::{
    Buffer, BufferIs, Call, CloseBuffer, CloseFile, CloseQueue, Code, Conversation, Done, Event,
    FileIs, Goodbye, Hello, Limits, List, Name, Open, Page, Queue, QueueIs, Refused, Reply,
    ReplyError, Request, Session, Status,
};

use crate::Random;
use crate::targets::Bytes;

const LIMITS: Limits = Limits {
    queues: 3,
    slots: 64,
    buffers: 3,
    open_files: 3,
    buffer_bytes: 5 * 4096,
    operations_per_second: 1,
    bytes_per_second: 1,
    operations_in_flight: 1,
    bytes_in_flight: 1,
};

/// Packets between the two sides so far, and their fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that a side judged.
    pub packets: u64,
    /// Requests that the server side passed on to be carried out.
    pub calls: u64,
    /// Refusals after which the conversation went on.
    pub refusals: u64,
    /// Ends by a refusal.
    pub cuts: u64,
    /// Answers that the client side accepted.
    pub answers: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.calls += other.calls;
        self.refusals += other.refusals;
        self.cuts += other.cuts;
        self.answers += other.answers;
    }
}

/// A handle, as a model of the server has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    File(u32),
    Buffer(u32),
}

/// A session, a conversation, and a model of what the client has.
struct World {
    server: Session,
    client: Conversation,
    /// The call that waits for its answer, with the number of the request.
    pending: Option<(u32, Call)>,
    welcomed: bool,
    queues: Vec<u32>,
    held: BTreeMap<Held, (u32, u64)>,
    /// Every queue number so far: none comes twice.
    last_queue: u32,
    next_handle: u32,
    counts: Counts,
}

/// Feeds both sides whatever the bytes say: whole packets, good requests, good requests with a wrong byte, and answers
/// that are good, wrong or refusals. The bytes are actions, each a byte and its operands.
///
/// # Panics
/// If a side panics, forgets something, exceeds a limit, goes on after its end, or accepts what does not fit.
pub fn drive(bytes: &[u8]) -> Counts {
    let mut bytes = Bytes(bytes);
    let mut world = World {
        server: Session::new(LIMITS),
        client: Conversation::new(),
        pending: None,
        welcomed: false,
        queues: Vec::new(),
        held: BTreeMap::new(),
        last_queue: 0,
        next_handle: 1,
        counts: Counts::default(),
    };
    for _ in 0..256 {
        if bytes.is_empty() {
            break;
        }
        world.act(&mut bytes);
        world.check();
    }
    world.counts
}

impl World {
    fn act(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.byte() % 16 {
            // A good request, from the client side, and its good answer.
            0..=6 => {
                let request = request(bytes);
                self.ask(request, None);
            }
            // The same with a wrong byte.
            7 | 8 => {
                let request = request(bytes);
                let (at, value) = (bytes.byte(), bytes.byte());
                self.ask(request, Some((at.into(), value)));
            }
            // A request without an answer: the next one comes too early.
            9 => {
                let request = request(bytes);
                let id = bytes.word();
                self.deliver(request.encode(id).bytes(), false);
            }
            10 => self.answer(bytes.byte(), bytes.byte()),
            11 => {
                let packet = bytes.piece();
                let strange = bytes.byte() == 255;
                self.deliver(packet, strange);
            }
            12 => {
                let packet = bytes.piece();
                let descriptors = bytes.byte().into();
                self.hear(packet, descriptors, None);
            }
            // An answer to another request, or to none.
            13 => {
                let packet = done(bytes.word());
                self.hear(packet.bytes(), 0, None);
            }
            14 => {
                self.start();
            }
            _ => {
                let note = self.server.note(Code::ShuttingDown);
                self.pending = None;
                assert!(self.server.is_ended());
                self.hear(note.bytes(), 0, None);
            }
        }
    }

    /// Begins a new connection.
    fn start(&mut self) {
        *self = Self {
            server: Session::new(LIMITS),
            client: Conversation::new(),
            pending: None,
            welcomed: false,
            queues: Vec::new(),
            held: BTreeMap::new(),
            last_queue: 0,
            next_handle: 1,
            counts: self.counts,
        };
    }

    /// Asks by the client side, answers by the server side, and has the client side judge the answer.
    fn ask(&mut self, request: Request, wrong: Option<(usize, u8)>) {
        let packet = self.client.ask(request.clone());
        let mut packet = packet.bytes().to_vec();
        if let Some((at, value)) = wrong {
            let at = at % packet.len();
            packet[at] ^= value;
        }
        let answer = match self.deliver(&packet, false) {
            Some(answer) => Some(answer),
            None => self.honest(),
        };
        if let Some((answer, descriptors)) = answer {
            let asked = wrong.is_none_or(|(_, value)| value == 0).then_some(request);
            self.hear(&answer, descriptors, asked.as_ref());
        }
    }

    /// Delivers a packet to the server side. Returns what the session answers by itself.
    fn deliver(&mut self, packet: &[u8], strange: bool) -> Option<(Vec<u8>, usize)> {
        self.counts.packets += 1;
        let ended = self.server.is_ended();
        let was_pending = self.pending.is_some();
        let id = match packet {
            [0x56, 0x59, 0x48, 0x53, .., _, _, _, _] if packet.len() >= 16 => {
                u32::from_le_bytes([packet[12], packet[13], packet[14], packet[15]])
            }
            _ => 0,
        };
        match self.server.receive(packet, strange) {
            Event::Call(call) => {
                assert!(!ended && !was_pending && !strange, "{call:?}");
                let (number, request) = Request::decode(packet).expect("it was passed on");
                assert_eq!((number, id != 0), (id, true));
                assert_eq!(matches!(call, Call::Hello(_)), !self.welcomed);
                self.admitted(&request, &call);
                self.pending = Some((id, call));
                self.counts.calls += 1;
                None
            }
            Event::Answer(answer, refused) => {
                assert!(
                    !ended && self.welcomed && !refused.cause().cuts(),
                    "{refused}"
                );
                assert!(!self.server.is_ended());
                self.counts.refusals += 1;
                Some((refusal(answer.bytes(), id, &refused), 0))
            }
            Event::Cut(answer, refused) => {
                assert!(refused.cause().cuts() && self.server.is_ended());
                self.pending = None;
                self.counts.cuts += 1;
                Some((refusal(answer.bytes(), id, &refused), 0))
            }
        }
    }

    /// Checks a call against the model and the limits.
    fn admitted(&self, request: &Request, call: &Call) {
        let whole = |bytes: u64| bytes.next_multiple_of(4096);
        let used: u64 = self.held.values().map(|(_, bytes)| bytes).sum();
        let files = self.files();
        match *call {
            Call::Queue { queue, slots, .. } => {
                assert!(queue > self.last_queue && (1..=64).contains(&slots));
                assert!(self.queues.len() < 3);
            }
            Call::Buffer { queue, bytes } => {
                assert!(self.queues.contains(&queue) && bytes > 0);
                assert!(whole(bytes) + used <= LIMITS.buffer_bytes);
                assert!(self.held.len() - files < 3);
            }
            Call::Open { queue, .. } => assert!(self.queues.contains(&queue) && files < 3),
            Call::CloseFile { queue, handle } => {
                assert_eq!(self.held[&Held::File(handle)].0, queue);
            }
            Call::CloseBuffer { queue, handle } => {
                assert_eq!(self.held[&Held::Buffer(handle)].0, queue);
            }
            Call::CloseQueue { queue } => assert!(self.queues.contains(&queue)),
            Call::Hello(_) | Call::List { .. } | Call::Status { .. } | Call::Goodbye => {}
        }
        let _ = request;
    }

    fn files(&self) -> usize {
        let held = self.held.keys();
        held.filter(|held| matches!(held, Held::File(_))).count()
    }

    /// Carries out the call that waits, as a server would. Returns the answer.
    fn honest(&mut self) -> Option<(Vec<u8>, usize)> {
        let (id, call) = self.pending.take()?;
        let reply = match call {
            Call::Hello(_) => {
                self.welcomed = true;
                let packet = self.server.welcome(1, 2, 1);
                return Some((packet.bytes().to_vec(), 0));
            }
            Call::Queue { queue, slots, .. } => {
                self.queues.push(queue);
                self.last_queue = queue;
                queue_is(queue, slots)
            }
            Call::Buffer { queue, bytes } => {
                let handle = self.handle();
                let whole = bytes.next_multiple_of(4096);
                self.held.insert(Held::Buffer(handle), (queue, whole));
                BufferIs { bytes, handle }.into()
            }
            Call::Open { queue, rights, .. } => {
                let handle = self.handle();
                self.held.insert(Held::File(handle), (queue, 0));
                file_is(handle, rights)
            }
            Call::CloseFile { handle, .. } => {
                self.held.remove(&Held::File(handle));
                Done {}.into()
            }
            Call::CloseBuffer { handle, .. } => {
                self.held.remove(&Held::Buffer(handle));
                Done {}.into()
            }
            Call::CloseQueue { queue } => {
                self.queues.retain(|&known| known != queue);
                self.held.retain(|_, (owner, _)| *owner != queue);
                Done {}.into()
            }
            Call::List { .. } => Reply::Files(Page::new(Vec::new(), 0).expect("empty")),
            Call::Status { .. } => Reply::StatusIs(Page::new(Vec::new(), 0).expect("empty")),
            Call::Goodbye => Done {}.into(),
        };
        let packet = self.server.answer(&reply);
        assert_eq!(
            packet,
            reply.encode(id),
            "the answer is sent as it was given"
        );
        Some((packet.bytes().to_vec(), reply.descriptors()))
    }

    const fn handle(&mut self) -> u32 {
        self.next_handle += 1;
        self.next_handle
    }

    /// Answers the call that waits, or none, by a refusal or by an answer that may not fit.
    fn answer(&mut self, which: u8, number: u8) {
        let pending = self.pending.take();
        let reply = match which % 4 {
            0 => Refused::because(Code::from_raw(number.into())).into(),
            1 => Done {}.into(),
            2 => queue_is(u32::from(number) + 1000, 1),
            _ => Reply::Files(Page::new(Vec::new(), number.into()).expect("empty")),
        };
        let fits = match (&pending, &reply) {
            (None, _) => false,
            (Some(_), Reply::Refused(_)) => true,
            (Some((_, Call::List { .. })), Reply::Files(_)) => true,
            (Some((_, Call::Goodbye)), Reply::Done(_)) => true,
            (Some((_, Call::CloseFile { handle, .. })), Reply::Done(_)) => {
                self.held.remove(&Held::File(*handle));
                true
            }
            (Some((_, Call::CloseBuffer { handle, .. })), Reply::Done(_)) => {
                self.held.remove(&Held::Buffer(*handle));
                true
            }
            (Some((_, Call::CloseQueue { queue })), Reply::Done(_)) => {
                let queue = *queue;
                self.queues.retain(|&known| known != queue);
                self.held.retain(|_, (owner, _)| *owner != queue);
                true
            }
            _ => false,
        };
        let packet = self.server.answer(&reply);
        let (id, sent) = Reply::decode(packet.bytes()).expect("a message");
        assert_eq!(id, pending.map_or(0, |(id, _)| id));
        match sent {
            Reply::Refused(refused) if !fits => assert_eq!(refused.cause(), Code::Internal),
            sent => assert_eq!(sent, reply),
        }
    }

    /// Has the client side judge a packet. `asked` is the request that was delivered as it is.
    fn hear(&mut self, packet: &[u8], descriptors: usize, asked: Option<&Request>) {
        self.counts.packets += 1;
        match self.client.receive(packet, descriptors) {
            Ok(reply) => {
                let (_, again) = Reply::decode(packet).expect("it was accepted");
                assert_eq!((reply.descriptors(), &reply), (descriptors, &again));
                assert!(!matches!(reply, Reply::Refused(_)));
                if let Some(asked) = asked {
                    assert_eq!(reply.kind(), asked.reply_kind());
                }
                self.counts.answers += 1;
            }
            Err(ReplyError::Refused(refused)) => assert!(!refused.cause().cuts()),
            Err(ReplyError::CutOff(_)) => {}
            Err(error) => assert!(asked.is_none(), "a good answer: {error}"),
        }
    }

    /// Compares the session with the model.
    fn check(&self) {
        let files = self.files() as u32;
        let bytes: u64 = self.held.values().map(|(_, bytes)| bytes).sum();
        assert_eq!(self.server.queues(), self.queues.len() as u32);
        assert_eq!(self.server.open_files(), files);
        assert_eq!(self.server.buffers(), self.held.len() as u32 - files);
        assert_eq!(self.server.buffer_bytes(), bytes);
        assert!(!self.server.is_open() || self.welcomed);
    }
}

/// Checks that a refusal is a message that answers a request, and returns it.
fn refusal(packet: &[u8], id: u32, refused: &Refused) -> Vec<u8> {
    let decoded = Reply::decode(packet).expect("a refusal is a message");
    assert_eq!(decoded, (id, Reply::Refused(*refused)));
    packet.to_vec()
}

fn done(id: u32) -> vyre_io_client::protocol::Packet {
    Reply::from(Done {}).encode(id)
}

fn queue_is(queue: u32, slots: u32) -> Reply {
    let bytes = 4096 + 64 * u64::from(slots);
    let (abi_major, abi_minor) = (1, 2);
    let features = 3;
    QueueIs {
        queue,
        slots,
        bytes,
        features,
        abi_major,
        abi_minor,
    }
    .into()
}

fn file_is(handle: u32, rights: u32) -> Reply {
    FileIs {
        handle,
        rights,
        start: 0,
        end: 10,
        length: 5,
        alignment: 1,
    }
    .into()
}

/// A request with small numbers, so that many of them name something.
fn request(bytes: &mut Bytes<'_>) -> Request {
    let kind = bytes.byte();
    let queue = u32::from(bytes.byte() % 5);
    match kind % 16 {
        0 | 1 => Hello {
            major: if bytes.byte() < 8 { 2 } else { 1 },
            minor: bytes.byte().into(),
            features: bytes.word(),
            name: Name::default(),
        }
        .into(),
        2 => List {
            cursor: bytes.wide(),
        }
        .into(),
        3 | 4 => Queue {
            slots: bytes.byte().into(),
            features: bytes.word(),
        }
        .into(),
        5 | 6 => Buffer {
            bytes: bytes.half().into(),
            queue,
        }
        .into(),
        7 => Buffer {
            bytes: u64::from(bytes.word()) << 32 | u64::from(bytes.word()),
            queue,
        }
        .into(),
        8 | 9 => Open {
            queue,
            rights: u32::from(bytes.byte() % 4),
            name: Name::shortened(std::str::from_utf8(bytes.piece()).unwrap_or("x")),
        }
        .into(),
        10 => {
            let handle = bytes.byte().into();
            CloseFile { queue, handle }.into()
        }
        11 => {
            let handle = bytes.byte().into();
            CloseBuffer { queue, handle }.into()
        }
        12 => CloseQueue { queue }.into(),
        13 | 14 => Status {
            cursor: bytes.wide(),
        }
        .into(),
        _ => Goodbye {}.into(),
    }
}

/// Report of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Inputs.
    pub executions: u64,
    /// Fate of their packets.
    pub counts: Counts,
    /// Time that it took.
    pub elapsed: Duration,
}

/// Calls [`drive`] with so many random inputs. Most greet first, and most of their actions are good requests with small
/// numbers, so that what a client has grows and shrinks. The others are any bytes.
///
/// # Panics
/// As [`drive`] does.
pub fn run(executions: u64, seed: u64) -> Report {
    let start = Instant::now();
    let mut random = Random::new(seed);
    let mut report = Report::default();
    let mut input = Vec::with_capacity(256);
    let tenth = (executions / 10).max(1);
    while report.executions < executions {
        input.clear();
        if random.below(16) != 0 {
            // A good request: HELLO of the version 1.
            input.extend_from_slice(&[0, 0, 0, 8, 0, 0, 0, 0, 0]);
        }
        for _ in 0..1 + random.below(24) {
            if random.below(12) == 0 {
                input.extend_from_slice(&random.bits().to_le_bytes());
            } else {
                good(&mut random, &mut input);
            }
        }
        report.counts.add(&drive(&input));
        report.executions += 1;
        if report.executions.is_multiple_of(tenth) {
            let seconds = start.elapsed().as_secs();
            println!("{} executions in {seconds} s", report.executions);
        }
    }
    report.elapsed = start.elapsed();
    report
}

/// Appends an action with a good request that often names something: see [`request`].
fn good(random: &mut Random, input: &mut Vec<u8>) {
    let queue = 1 + random.below(3) as u8;
    let small = random.below(10) as u8;
    let request: &[u8] = match random.below(12) {
        0 => &[2, queue, small, 0, 0, 0],
        1 | 2 => &[3, queue, small, 0, 0, 0, 0],
        3 | 4 => &[5, queue, 1, small << 4],
        5 | 6 => &[8, queue, 0, 2, b'a', b'b'],
        7 | 8 => &[10, queue, small],
        9 | 10 => &[11, queue, small],
        _ => &[12, queue],
    };
    input.push(0);
    input.extend_from_slice(request);
}
