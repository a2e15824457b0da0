//! The client's side of one connection, as a pure state machine.

use vyre_ioq::QueueLayout;
use vyre_ioq::abi::{ABI_MAJOR, MAX_SLOTS};

use super::message::{Reply, Request};
use super::messages::{BufferIs, FileIs, Hello, Name, QueueIs, Refused};
use super::packet::{DecodeError, Packet};
use super::sizes::{MAJOR, MINOR};

/// Reason why a packet is no answer that a client can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The server refused the request.
    #[error("the server refused: {0}")]
    Refused(Box<Refused>),
    /// The server ends the connection, and says why.
    #[error("the server ended the connection: {0}")]
    CutOff(Box<Refused>),
    /// The packet is no message of a server.
    #[error("the server does not keep to the protocol: {0}")]
    Malformed(#[from] DecodeError),
    /// The message answers another request.
    #[error("the server answered request {found} instead of {expected}")]
    WrongNumber {
        /// Number of the request.
        expected: u32,
        /// Number in the answer.
        found: u32,
    },
    /// The message is no answer to such a request.
    #[error("the server answered with the kind {found:#x} instead of {expected:#x}")]
    WrongKind {
        /// Kind of the answer to the request.
        expected: u16,
        /// Kind of the message.
        found: u16,
    },
    /// No request was waiting for an answer.
    #[error("the server sent an answer to no request")]
    Unasked,
    /// The answer did not come with the descriptors that belong to it.
    #[error("{found} descriptors came with an answer that has {expected}")]
    Descriptors {
        /// Number that belongs to the answer.
        expected: usize,
        /// Number that came.
        found: usize,
    },
    /// A number in the answer cannot be.
    #[error("the server's answer has an impossible {field}: {value}")]
    Impossible {
        /// Name of the field.
        field: &'static str,
        /// Its content.
        value: u64,
    },
    /// The server or its queues have another major version.
    #[error(
        "the server has version {theirs} of {of}, this client version {ours}: use a client of the same version"
    )]
    MajorVersion {
        /// The protocol or the ABI.
        of: &'static str,
        /// Version of the server.
        theirs: u32,
        /// Version of this crate.
        ours: u32,
    },
}

/// The client's side of one connection: it numbers the requests, and judges each answer. It does no I/O.
///
/// ```
/// use vyre_io_client::protocol::{Conversation, Limits, Name, Reply, Request, Session};
///
/// let (mut client, mut server) = (Conversation::new(), Session::new(Limits::default()));
/// let hello = client.hello(Name::new("example")?);
/// let _call = server.receive(hello.bytes(), false);
/// let answer = server.welcome(1, 0, 0);
/// let Reply::Welcome(welcome) = client.receive(answer.bytes(), 0)? else {
///     panic!("an answer of another kind is an error");
/// };
/// assert_eq!(welcome.peer, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Conversation {
    last: u32,
    waiting: Option<Request>,
}

impl Conversation {
    /// Creates a conversation in which nothing was said.
    pub const fn new() -> Self {
        Self {
            last: 0,
            waiting: None,
        }
    }

    /// Returns the first message.
    pub fn hello(&mut self, name: Name) -> Packet {
        self.ask(Request::Hello(Hello {
            major: MAJOR as u16,
            minor: MINOR as u16,
            features: super::feature::STATUS,
            name,
        }))
    }

    /// Returns a request as a packet. The next packet that comes must answer it.
    pub fn ask(&mut self, request: Request) -> Packet {
        // Never 0, the number of what answers no request.
        self.last = self.last.checked_add(1).unwrap_or(1);
        let packet = request.encode(self.last);
        self.waiting = Some(request);
        packet
    }

    /// Judges a packet that came with so many descriptors. An answer that is returned is of the kind that the request
    /// asks for, and its numbers are consistent.
    ///
    /// # Errors
    /// [`ReplyError`] if the request was refused, or if the packet is no answer to it. Except after
    /// [`ReplyError::Refused`], the connection is of no further use.
    pub fn receive(&mut self, packet: &[u8], descriptors: usize) -> Result<Reply, ReplyError> {
        let request = self.waiting.take();
        let (found, reply) = Reply::decode(packet)?;
        if let (Reply::Refused(refused), 0) = (&reply, found) {
            return Err(ReplyError::CutOff(Box::new(*refused)));
        }
        let request = request.ok_or(ReplyError::Unasked)?;
        let expected = self.last;
        if found != expected {
            return Err(ReplyError::WrongNumber { expected, found });
        }
        let (expected, found) = (reply.descriptors(), descriptors);
        if expected != found {
            return Err(ReplyError::Descriptors { expected, found });
        }
        if let Reply::Refused(refused) = reply {
            let fatal = refused.cause().cuts() || matches!(request, Request::Hello(_));
            return Err(if fatal {
                ReplyError::CutOff(Box::new(refused))
            } else {
                ReplyError::Refused(Box::new(refused))
            });
        }
        let (expected, found) = (request.reply_kind(), reply.kind());
        if expected != found {
            return Err(ReplyError::WrongKind { expected, found });
        }
        check(&request, &reply)?;
        Ok(reply)
    }
}

fn impossible(field: &'static str, value: impl Into<u64>) -> ReplyError {
    ReplyError::Impossible {
        field,
        value: value.into(),
    }
}

/// Checks the numbers of an answer of the right kind.
fn check(request: &Request, reply: &Reply) -> Result<(), ReplyError> {
    match (request, reply) {
        (_, Reply::Welcome(welcome)) => major("the handshake", welcome.major.into(), MAJOR),
        (Request::Queue(asked), Reply::QueueIs(queue)) => check_queue(asked.slots, queue),
        (Request::Buffer(asked), Reply::BufferIs(BufferIs { bytes, .. })) => {
            let same = *bytes == asked.bytes;
            same.then_some(()).ok_or(impossible("bytes", *bytes))
        }
        (Request::Open(asked), Reply::FileIs(file)) => check_file(asked.rights, file),
        (Request::List(asked), Reply::Files(page)) => cursor(asked.cursor, page.next()),
        (Request::Status(asked), Reply::StatusIs(page)) => cursor(asked.cursor, page.next()),
        _ => Ok(()),
    }
}

fn major(of: &'static str, theirs: u32, ours: u32) -> Result<(), ReplyError> {
    let same = theirs == ours;
    let error = ReplyError::MajorVersion { of, theirs, ours };
    same.then_some(()).ok_or(error)
}

/// A list ends: cursors grow.
fn cursor(asked: u64, next: u64) -> Result<(), ReplyError> {
    let grows = next == 0 || next > asked;
    grows.then_some(()).ok_or(impossible("next", next))
}

fn check_queue(asked: u32, queue: &QueueIs) -> Result<(), ReplyError> {
    major("the queue's ABI", queue.abi_major.into(), ABI_MAJOR)?;
    if queue.slots != asked || queue.slots == 0 || queue.slots > MAX_SLOTS {
        return Err(impossible("slots", queue.slots));
    }
    // What is attached to has another say: this only keeps a client from mapping what it cannot use.
    let least = QueueLayout::with_slots(queue.slots).bytes() as u64;
    let most = QueueLayout::with_slots(MAX_SLOTS).bytes() as u64;
    let fits = (least..=most).contains(&queue.bytes);
    fits.then_some(()).ok_or(impossible("bytes", queue.bytes))
}

fn check_file(asked: u32, file: &FileIs) -> Result<(), ReplyError> {
    if file.start > file.end {
        return Err(impossible("start", file.start));
    }
    if file.length > file.end - file.start {
        return Err(impossible("length", file.length));
    }
    if !file.alignment.is_power_of_two() {
        return Err(impossible("alignment", file.alignment));
    }
    // A server may give fewer rights only where the client left the choice to it.
    let given = asked == 0 || file.rights == asked;
    given.then_some(()).ok_or(impossible("rights", file.rights))
}
