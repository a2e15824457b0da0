//! The server's side of one connection, as a pure state machine.

use std::collections::BTreeMap;

use super::limits::Limits;
use super::message::{Reply, Request};
use super::messages::{
    Buffer, CloseBuffer, CloseFile, CloseQueue, Hello, Name, Open, Queue, Refused, Welcome,
};
use super::packet::{DecodeError, Header, Packet};
use super::refusal::Code;
use super::sizes::{MAJOR, MINOR, PAGE_BYTES};
use super::{feature, kind};

/// Something that the server must do, and then [answer](Session::answer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The client has introduced itself. Answer by [`Session::welcome`], or refuse it.
    Hello(Hello),
    /// Answer [`Reply::Files`].
    List {
        /// Cursor of the page: 0 or one that the server gave.
        cursor: u64,
    },
    /// Make a queue, and answer [`Reply::QueueIs`] with this number.
    Queue {
        /// Number of the queue on this connection, which was never used before.
        queue: u32,
        /// Number of slots, within the limits.
        slots: u32,
        /// Features that the client wishes; unknown bits may be set.
        features: u32,
    },
    /// Make a buffer for one queue, and answer [`Reply::BufferIs`].
    Buffer {
        /// Number of the queue, which exists.
        queue: u32,
        /// Number of bytes, within the limits and not zero.
        bytes: u64,
    },
    /// Open a file for one queue, and answer [`Reply::FileIs`].
    Open {
        /// Number of the queue, which exists.
        queue: u32,
        /// Name that the client gave.
        name: Name,
        /// Rights that the client wishes, or 0 for all that it may have; unknown bits may be set.
        rights: u32,
    },
    /// Revoke a file handle, and answer [`Reply::Done`].
    CloseFile {
        /// Number of the queue, which exists.
        queue: u32,
        /// Handle, which is bound to it.
        handle: u32,
    },
    /// Revoke a buffer handle, and answer [`Reply::Done`].
    CloseBuffer {
        /// Number of the queue, which exists.
        queue: u32,
        /// Handle, which is bound to it.
        handle: u32,
    },
    /// Remove a queue and revoke all handles that are bound to it, and answer [`Reply::Done`].
    CloseQueue {
        /// Number of the queue, which exists.
        queue: u32,
    },
    /// Answer [`Reply::StatusIs`].
    Status {
        /// Cursor of the page: 0 or one that the server gave.
        cursor: u64,
    },
    /// The client leaves. Answer [`Reply::Done`], then close the connection and free what it had.
    Goodbye,
}

/// Consequence of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the client waits for an answer"]
pub enum Event {
    /// Do this, then give its answer to [`Session::answer`].
    Call(Call),
    /// Send this. The session has already answered.
    Answer(Packet, Refused),
    /// Send this if the socket takes it at once, then close the connection and free what the client had.
    Cut(Packet, Refused),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// HELLO has not been answered yet.
    Greeting,
    Open,
    /// Cut off, or after GOODBYE.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    File,
    Buffer,
}

/// A handle that a client has.
#[derive(Clone, Copy, Debug)]
struct Held {
    queue: u32,
    /// Bytes of a buffer in whole pages; 0 for a file.
    bytes: u64,
}

/// The server's side of one connection: it judges each packet of the client, knows what the client has, and
/// enforces its limits. It does no I/O.
///
/// One request is served at a time: after [`Event::Call`], the next packet is refused with [`Code::Busy`] until
/// [`answer`](Self::answer) was called. A server should not read it before.
///
/// ```
/// use vyre_io_client::protocol::{Call, Event, Hello, Limits, Request, Session};
///
/// let mut session = Session::new(Limits::default());
/// let hello = Request::from(Hello { major: 1, ..Hello::default() }).encode(1);
/// let Event::Call(Call::Hello(hello)) = session.receive(hello.bytes(), false) else {
///     panic!("a good HELLO");
/// };
/// let answer = session.welcome(7, 2, 0); // peer 7, to whom two files are offered
/// assert_eq!(answer.bytes().len(), 16 + 72);
/// # let _ = hello;
/// ```
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    stage: Stage,
    /// The request that is being served, with its number.
    pending: Option<(u32, Call)>,
    /// Numbers of the queues that exist.
    queues: Vec<u32>,
    next_queue: u32,
    held: BTreeMap<(Table, u32), Held>,
    buffers: u32,
    buffer_bytes: u64,
    refusals: u64,
}

impl Session {
    /// Creates the session of a client that has just connected.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            stage: Stage::Greeting,
            pending: None,
            queues: Vec::new(),
            next_queue: 0,
            held: BTreeMap::new(),
            buffers: 0,
            buffer_bytes: 0,
            refusals: 0,
        }
    }

    /// Judges a packet. `strange` is set if the packet was cut short, or came with descriptors: a client sends
    /// none. The caller has closed them, or better never had room for them.
    pub fn receive(&mut self, packet: &[u8], strange: bool) -> Event {
        let id = Header::id_of(packet);
        if self.stage == Stage::Ended {
            return self.cut(id, Refused::because(Code::OutOfOrder));
        }
        if strange {
            let text = "a packet that is too long, or that comes with descriptors";
            return self.cut(id, Refused::with_text(Code::Malformed, text));
        }
        match self.judge(packet) {
            Ok(call) => {
                self.pending = Some((id, call));
                Event::Call(call)
            }
            Err(refused) if refused.cause().cuts() => self.cut(id, *refused),
            Err(refused) => {
                self.refusals += 1;
                Event::Answer(Reply::from(*refused).encode(id), *refused)
            }
        }
    }

    fn judge(&self, packet: &[u8]) -> Result<Call, Box<Refused>> {
        let (header, body) = Header::split(packet).map_err(|error| malformed(&error))?;
        if header.id == 0 {
            return Err(malformed(&DecodeError::NoNumber));
        }
        let greeting = self.stage == Stage::Greeting;
        if greeting != (header.kind == kind::HELLO) || greeting && self.pending.is_some() {
            return Err(because(Code::OutOfOrder));
        }
        if greeting {
            // Only the version is at the same place in all versions.
            if let [low, high, ..] = *body
                && u16::from_le_bytes([low, high]) != MAJOR as u16
            {
                return Err(because(Code::Version));
            }
        }
        let request = match Request::decode(packet) {
            Ok((_, request)) => request,
            Err(DecodeError::UnknownKind { kind }) if kind & 0x8000 == 0 => {
                return Err(because(Code::UnknownRequest));
            }
            Err(error) => return Err(malformed(&error)),
        };
        if self.pending.is_some() {
            return Err(because(Code::Busy));
        }
        self.admit(&request).map_err(because)
    }

    /// Holds a request against what the client has and may have.
    fn admit(&self, request: &Request) -> Result<Call, Code> {
        Ok(match *request {
            Request::Hello(hello) => Call::Hello(hello),
            Request::List(list) => Call::List {
                cursor: list.cursor,
            },
            Request::Queue(Queue { slots, features }) => {
                if slots == 0 || slots > self.limits.slots {
                    return Err(Code::BadSlots);
                }
                if self.queues.len() >= self.limits.queues as usize {
                    return Err(Code::TooManyQueues);
                }
                let queue = self.next_queue.checked_add(1);
                Call::Queue {
                    queue: queue.ok_or(Code::NoResources)?,
                    slots,
                    features,
                }
            }
            Request::Buffer(Buffer { bytes, queue }) => {
                self.know(queue)?;
                if bytes == 0 {
                    return Err(Code::BadBytes);
                }
                if self.buffers >= self.limits.buffers {
                    return Err(Code::TooManyBuffers);
                }
                let whole = whole_pages(bytes).and_then(|all| all.checked_add(self.buffer_bytes));
                if whole.is_none_or(|all| all > self.limits.buffer_bytes) {
                    return Err(Code::TooManyBufferBytes);
                }
                Call::Buffer { queue, bytes }
            }
            Request::Open(Open {
                queue,
                rights,
                name,
            }) => {
                self.know(queue)?;
                if self.open_files() >= self.limits.open_files {
                    return Err(Code::TooManyFiles);
                }
                Call::Open {
                    queue,
                    name,
                    rights,
                }
            }
            Request::CloseFile(CloseFile { queue, handle }) => {
                self.owns(queue, Table::File, handle)?;
                Call::CloseFile { queue, handle }
            }
            Request::CloseBuffer(CloseBuffer { queue, handle }) => {
                self.owns(queue, Table::Buffer, handle)?;
                Call::CloseBuffer { queue, handle }
            }
            Request::CloseQueue(CloseQueue { queue }) => {
                self.know(queue)?;
                Call::CloseQueue { queue }
            }
            Request::Status(status) => Call::Status {
                cursor: status.cursor,
            },
            Request::Goodbye(_) => Call::Goodbye,
        })
    }

    fn know(&self, queue: u32) -> Result<(), Code> {
        let known = self.queues.contains(&queue);
        known.then_some(()).ok_or(Code::NoSuchQueue)
    }

    fn owns(&self, queue: u32, table: Table, handle: u32) -> Result<(), Code> {
        self.know(queue)?;
        let held = self.held.get(&(table, handle));
        let owned = held.is_some_and(|held| held.queue == queue);
        owned.then_some(()).ok_or(Code::NoSuchHandle)
    }

    /// Accepts the client: answers [`Call::Hello`] with its limits. `peer` is the number by which the log names it,
    /// `files` the number of files that it is offered, and `features` those of [`feature`] that it may use.
    pub fn welcome(&mut self, peer: u64, files: u32, features: u32) -> Packet {
        let limits = self.limits;
        self.answer(&Reply::Welcome(Welcome {
            major: MAJOR as u16,
            minor: MINOR as u16,
            features: features & feature::STATUS,
            peer,
            queues: limits.queues,
            slots: limits.slots,
            buffers: limits.buffers,
            open_files: limits.open_files,
            buffer_bytes: limits.buffer_bytes,
            operations_per_second: limits.operations_per_second,
            bytes_per_second: limits.bytes_per_second,
            bytes_in_flight: limits.bytes_in_flight,
            operations_in_flight: limits.operations_in_flight,
            files,
        }))
    }

    /// Refuses the request that is being served.
    pub fn refuse(&mut self, refused: Refused) -> Packet {
        self.answer(&Reply::Refused(refused))
    }

    /// Answers the request that is being served, and records what the client has now. Send the packet with the
    /// descriptor of the queue or the buffer, if it has one. After [`is_ended`](Self::is_ended), close the connection.
    ///
    /// An answer that does not fit the request becomes a refusal with [`Code::Internal`].
    pub fn answer(&mut self, reply: &Reply) -> Packet {
        let Some((id, call)) = self.pending.take() else {
            return self.note(Code::Internal);
        };
        if let &Reply::Refused(refused) = reply {
            self.refusals += 1;
            if refused.cause().cuts() || self.stage == Stage::Greeting {
                self.stage = Stage::Ended;
            }
            return Reply::Refused(refused).encode(id);
        }
        if !self.record(call, reply) {
            self.refusals += 1;
            let text = "the server's answer does not fit the request";
            let refused = Refused::with_text(Code::Internal, text);
            return Reply::Refused(refused).encode(id);
        }
        reply.encode(id)
    }

    /// Records an answer. Returns false if it does not fit the call.
    fn record(&mut self, call: Call, reply: &Reply) -> bool {
        match (call, reply) {
            (Call::Hello(_), Reply::Welcome(_)) => self.stage = Stage::Open,
            (Call::Queue { queue, .. }, Reply::QueueIs(answer)) if answer.queue == queue => {
                self.next_queue = queue;
                self.queues.push(queue);
            }
            (Call::Buffer { queue, bytes }, Reply::BufferIs(answer)) => {
                let Some(bytes) = whole_pages(bytes) else {
                    return false;
                };
                self.hold(Table::Buffer, answer.handle, Held { queue, bytes });
            }
            (Call::Open { queue, .. }, Reply::FileIs(answer)) => {
                self.hold(Table::File, answer.handle, Held { queue, bytes: 0 });
            }
            (Call::CloseFile { handle, .. }, Reply::Done(_)) => {
                self.let_go(Table::File, handle);
            }
            (Call::CloseBuffer { handle, .. }, Reply::Done(_)) => {
                self.let_go(Table::Buffer, handle);
            }
            (Call::CloseQueue { queue }, Reply::Done(_)) => {
                self.queues.retain(|&known| known != queue);
                let of_it =
                    |(key, held): (&(Table, u32), &Held)| (held.queue == queue).then_some(*key);
                let lost: Vec<_> = self.held.iter().filter_map(of_it).collect();
                for (table, handle) in lost {
                    self.let_go(table, handle);
                }
            }
            (Call::Goodbye, Reply::Done(_)) => self.stage = Stage::Ended,
            (Call::List { .. }, Reply::Files(_)) | (Call::Status { .. }, Reply::StatusIs(_)) => {}
            _ => return false,
        }
        true
    }

    fn hold(&mut self, table: Table, handle: u32, held: Held) {
        self.let_go(table, handle);
        self.buffers += u32::from(table == Table::Buffer);
        // The sum is within the limits, which `admit` has checked.
        self.buffer_bytes = self.buffer_bytes.saturating_add(held.bytes);
        self.held.insert((table, handle), held);
    }

    fn let_go(&mut self, table: Table, handle: u32) {
        if let Some(held) = self.held.remove(&(table, handle)) {
            self.buffers -= u32::from(table == Table::Buffer);
            self.buffer_bytes = self.buffer_bytes.saturating_sub(held.bytes);
        }
    }

    /// Returns a refusal that answers no request, and ends the session: for a server that is about to end, or that
    /// has lost patience.
    pub fn note(&mut self, code: Code) -> Packet {
        self.stage = Stage::Ended;
        self.pending = None;
        Reply::from(Refused::because(code)).encode(0)
    }

    fn cut(&mut self, id: u32, refused: Refused) -> Event {
        self.refusals += 1;
        self.stage = Stage::Ended;
        self.pending = None;
        Event::Cut(Reply::from(refused).encode(id), refused)
    }

    /// Returns whether the conversation has ended: after GOODBYE, a refused HELLO, or a refusal that cuts the client
    /// off.
    pub fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Returns whether the client has been welcomed, and has not ended since.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Returns the limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the number of queues that the client has.
    pub fn queues(&self) -> u32 {
        self.queues.len() as u32
    }

    /// Returns the number of buffers that the client has.
    pub const fn buffers(&self) -> u32 {
        self.buffers
    }

    /// Returns the bytes of the client's buffers, each in whole pages.
    pub const fn buffer_bytes(&self) -> u64 {
        self.buffer_bytes
    }

    /// Returns the number of files that the client has open.
    pub fn open_files(&self) -> u32 {
        self.held.len() as u32 - self.buffers
    }

    /// Returns the number of requests that were refused.
    pub const fn refusals(&self) -> u64 {
        self.refusals
    }
}

fn because(code: Code) -> Box<Refused> {
    Box::new(Refused::because(code))
}

fn malformed(error: &DecodeError) -> Box<Refused> {
    let text = error.to_string();
    Box::new(Refused::with_text(Code::Malformed, &text))
}

/// Returns a number of bytes in whole pages.
fn whole_pages(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(PAGE_BYTES.into())
}
