//! The client: one connection to a server.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vyre_ioq::{DeviceQueue, Features};

use crate::error::ClientError;
use crate::memory::{Mapping, SharedMemory};
use crate::objects::{ClientQueue, OpenFile, SharedBuffer};
use crate::protocol::{
    Buffer, CloseBuffer, CloseFile, CloseQueue, Conversation, Entry, FileEntry, Goodbye, List,
    Name, Open, Page, PeerStatus, Queue, Reply, Request, Status, Welcome,
};
use crate::socket::Socket;

/// Default time limit of an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection to a server.
///
/// The server ends the client's queues when the connection ends. That is when the client and everything that came from
/// it have been dropped, since a [`ClientQueue`] keeps the connection, to see the server go.
///
/// ```no_run
/// use std::time::Duration;
/// use vyre_io_client::{Client, Features, Request};
///
/// let mut client = Client::connect("/run/vyre-io.sock")?;
/// let queue = client.queue(64, Features::WAKE)?;
/// let buffer = client.buffer(&queue, 1 << 16)?;
/// let file = client.open(&queue, "weights", 0)?;
///
/// let request = Request::read(file.handle(), 0, 4096).into_buffer(buffer.handle(), 0);
/// let ticket = queue.device().submit(request)?;
/// let bytes = queue.wait(ticket, Duration::from_secs(30))?.bytes()? as usize;
/// let mut out = vec![0; bytes];
/// buffer.memory().read_at(0, &mut out)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    socket: Arc<Socket>,
    conversation: Conversation,
    limit: Duration,
    welcome: Welcome,
    broken: bool,
}

impl Client {
    /// Connects to the server that listens at a path, under the name of this program.
    ///
    /// # Errors
    /// [`ClientError`]: [`Connect`](ClientError::Connect) if nobody listens there or the socket may not be used,
    /// [`CutOff`](ClientError::CutOff) if the server does not accept this client.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let program = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&program).file_name().unwrap_or_default();
        let name = Name::shortened(&name.to_string_lossy());
        Self::greet(Socket::connect(path.as_ref(), LIMIT)?, name)
    }

    /// Connects to the server that listens at a path, under a name for its log.
    ///
    /// # Errors
    /// The same as for [`connect`](Self::connect), and [`ClientError::Name`] if the name cannot be sent.
    pub fn connect_as(path: impl AsRef<Path>, name: &str) -> Result<Self, ClientError> {
        let name = Name::new(name)?;
        Self::greet(Socket::connect(path.as_ref(), LIMIT)?, name)
    }

    /// Takes over a connected socket of the type SOCK_SEQPACKET, for example one that a sandboxed process has inherited,
    /// and greets the server under a name for its log.
    ///
    /// # Errors
    /// The same as for [`connect_as`](Self::connect_as).
    pub fn from_socket(socket: OwnedFd, name: &str) -> Result<Self, ClientError> {
        let name = Name::new(name)?;
        Self::greet(Socket::from_fd(socket, LIMIT)?, name)
    }

    fn greet(socket: Socket, name: Name) -> Result<Self, ClientError> {
        let mut client = Self {
            socket: Arc::new(socket),
            conversation: Conversation::new(),
            limit: LIMIT,
            welcome: Welcome::default(),
            broken: false,
        };
        let packet = client.conversation.hello(name);
        match client.exchange(packet.bytes())? {
            (Reply::Welcome(welcome), _) => client.welcome = welcome,
            _ => return Err(client.unfit()),
        }
        Ok(client)
    }

    /// Returns the version, the features and the limits that the server has told.
    pub const fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Sets the time limit of each further answer. The default is 30 seconds. An answer that gives something back comes
    /// only when the transfers that use it have ended.
    ///
    /// # Errors
    /// [`ClientError::Socket`] if the socket takes no limit.
    pub fn set_answer_limit(&mut self, limit: Duration) -> Result<(), ClientError> {
        self.socket.set_limit(limit)?;
        self.limit = limit;
        Ok(())
    }

    /// Returns whether the server has closed the connection: it ended, was killed, or cut this client off.
    pub fn is_host_gone(&self) -> bool {
        self.socket.is_hung_up()
    }

    /// Returns the files that the server offers to this client.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses, has gone, or does not keep to the protocol.
    pub fn files(&mut self) -> Result<Vec<FileEntry>, ClientError> {
        self.pages(
            |cursor| List { cursor }.into(),
            |reply| match reply {
                Reply::Files(page) => Some(page),
                _ => None,
            },
        )
    }

    /// Returns the counters of all peers of the server. The entry of peer 0 has the sums of those that have gone.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `NOT_PERMITTED` unless this process runs as the server's user or as root; otherwise
    /// as for [`files`](Self::files).
    pub fn status(&mut self) -> Result<Vec<PeerStatus>, ClientError> {
        self.pages(
            |cursor| Status { cursor }.into(),
            |reply| match reply {
                Reply::StatusIs(page) => Some(page),
                _ => None,
            },
        )
    }

    /// Asks for pages until the last. Cursors grow, so there is one.
    fn pages<E: Entry>(
        &mut self,
        ask: impl Fn(u64) -> Request,
        page: impl Fn(Reply) -> Option<Page<E>>,
    ) -> Result<Vec<E>, ClientError> {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let (reply, _) = self.ask(ask(cursor))?;
            let Some(page) = page(reply) else {
                return Err(self.unfit());
            };
            all.extend_from_slice(page.entries());
            cursor = page.next();
            if cursor == 0 {
                return Ok(all);
            }
        }
    }

    /// Asks for a queue, and attaches to it. `features` are wishes: [`DeviceQueue::features`] tells what the queue has.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the limits do not allow it; [`ClientError::Memory`] or [`ClientError::Attach`] if what
    /// the server sent is no queue in memory that cannot shrink; otherwise as for [`files`](Self::files).
    pub fn queue(&mut self, slots: u32, features: Features) -> Result<ClientQueue, ClientError> {
        let features = features.bits();
        let (reply, descriptor) = self.ask(Queue { slots, features }.into())?;
        let (Reply::QueueIs(answer), Some(memfd)) = (reply, descriptor) else {
            return Err(self.unfit());
        };
        let region = Mapping::new(memfd, answer.bytes)?.into_region()?;
        let device = DeviceQueue::attach(region)?;
        Ok(ClientQueue::new(answer.queue, device, &self.socket))
    }

    /// Asks for memory that requests of a queue may name.
    ///
    /// # Errors
    /// [`ClientError::Foreign`] if the queue belongs to another connection; [`ClientError::Memory`] if the memory that the
    /// server sent can shrink or is too short; otherwise as for [`queue`](Self::queue).
    pub fn buffer(&mut self, queue: &ClientQueue, bytes: u64) -> Result<SharedBuffer, ClientError> {
        let queue = self.number_of(queue)?;
        let (reply, descriptor) = self.ask(Buffer { bytes, queue }.into())?;
        let (Reply::BufferIs(answer), Some(memfd)) = (reply, descriptor) else {
            return Err(self.unfit());
        };
        let memory = SharedMemory::new(Mapping::new(memfd, answer.bytes)?);
        Ok(SharedBuffer::new(queue, answer.handle, memory))
    }

    /// Asks for a handle to a file, for requests of a queue. `rights` are those of [`rights`](crate::protocol::rights)
    /// that the handle is to have; 0 asks for all that this client may have.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `NO_SUCH_FILE` or `NOT_PERMITTED`; otherwise as for [`buffer`](Self::buffer).
    pub fn open(
        &mut self,
        queue: &ClientQueue,
        name: &str,
        rights: u32,
    ) -> Result<OpenFile, ClientError> {
        let queue = self.number_of(queue)?;
        let name = Name::new(name)?;
        let open = Open {
            queue,
            rights,
            name,
        };
        match self.ask(open.into())? {
            (Reply::FileIs(answer), _) => Ok(OpenFile::new(queue, answer)),
            _ => Err(self.unfit()),
        }
    }

    /// Gives a handle to a file back. The answer comes when the transfers that use it have ended.
    ///
    /// # Errors
    /// The same as for [`files`](Self::files). [`ClientError::Refused`] with `STILL_IN_USE` if transfers did not end in time.
    pub fn close_file(&mut self, file: &OpenFile) -> Result<(), ClientError> {
        let (queue, handle) = (file.queue(), file.handle().raw());
        self.give_back(CloseFile { queue, handle }.into())
    }

    /// Gives a buffer back. The answer comes when the transfers that use it have ended. The memory is still there until
    /// the value is dropped, but no request may name it.
    ///
    /// # Errors
    /// The same as for [`close_file`](Self::close_file).
    pub fn close_buffer(&mut self, buffer: &SharedBuffer) -> Result<(), ClientError> {
        let (queue, handle) = (buffer.queue(), buffer.handle().raw());
        self.give_back(CloseBuffer { queue, handle }.into())
    }

    /// Gives a queue back, with all handles that are bound to it. The answer comes when its transfers have ended.
    ///
    /// # Errors
    /// The same as for [`close_file`](Self::close_file).
    pub fn close_queue(&mut self, queue: &ClientQueue) -> Result<(), ClientError> {
        let queue = self.number_of(queue)?;
        self.give_back(CloseQueue { queue }.into())
    }

    /// Ends the conversation in order: returns when the server has accepted it.
    ///
    /// # Errors
    /// The same as for [`files`](Self::files).
    pub fn goodbye(mut self) -> Result<(), ClientError> {
        self.give_back(Goodbye {}.into())
    }

    fn give_back(&mut self, request: Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            (Reply::Done(_), _) => Ok(()),
            _ => Err(self.unfit()),
        }
    }

    fn number_of(&self, queue: &ClientQueue) -> Result<u32, ClientError> {
        let ours = queue.is_of(&self.socket);
        ours.then(|| queue.number()).ok_or(ClientError::Foreign)
    }

    fn ask(&mut self, request: Request) -> Result<(Reply, Option<OwnedFd>), ClientError> {
        let packet = self.conversation.ask(request);
        self.exchange(packet.bytes())
    }

    /// Sends a request and receives its answer. Whatever leaves it open which answer comes next breaks the connection.
    fn exchange(&mut self, packet: &[u8]) -> Result<(Reply, Option<OwnedFd>), ClientError> {
        if self.broken {
            return Err(ClientError::Broken);
        }
        let answered = self.try_exchange(packet);
        let in_step = matches!(answered, Ok(_) | Err(ClientError::Refused(_)));
        self.broken = !in_step;
        answered
    }

    fn try_exchange(&mut self, packet: &[u8]) -> Result<(Reply, Option<OwnedFd>), ClientError> {
        // A server that has cut this client off has said why before it closed.
        let sent = self.socket.send(packet, self.limit);
        if !matches!(sent, Ok(()) | Err(ClientError::HostGone)) {
            sent?;
        }
        let mut received = self.socket.receive(self.limit)?;
        let count = received.descriptors.len();
        let reply = self.conversation.receive(&received.bytes, count)?;
        Ok((reply, received.descriptors.pop()))
    }

    /// An answer of another kind than the conversation has let pass. There is none.
    fn unfit(&mut self) -> ClientError {
        self.broken = true;
        ClientError::Broken
    }
}
