//! Requests and replies: each kind of message with its body.

use super::kind;
use super::messages::{
    Buffer, BufferIs, CloseBuffer, CloseFile, CloseQueue, Done, FileEntry, FileIs, Goodbye, Hello,
    List, Open, PeerStatus, Queue, QueueIs, Refused, Status, Welcome,
};
use super::packet::{DecodeError, Header, Packet};
use super::page::Page;
use super::record::Record as _;

macro_rules! messages {
    ($(#[$about:meta])* $enum:ident { $($(#[$doc:meta])* $name:ident($body:ty) = $kind:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $enum {
            $($(#[$doc])* $name($body),)+
        }

        impl $enum {
            /// Returns the kind of the message.
            pub const fn kind(&self) -> u16 {
                match self {
                    $(Self::$name(_) => kind::$kind,)+
                }
            }

            /// Returns the message as a packet. `id` is the number of the request.
            pub fn encode(&self, id: u32) -> Packet {
                Packet::new(self.kind(), id, |out| match self {
                    $(Self::$name(body) => body.put(out),)+
                })
            }

            /// Reads a packet. Returns the number of the request and the message.
            ///
            /// # Errors
            /// [`DecodeError`] if the packet is no such message.
            pub fn decode(packet: &[u8]) -> Result<(u32, Self), DecodeError> {
                let (Header { kind, id }, body) = Header::split(packet)?;
                let message = match kind {
                    $(kind::$kind => Self::$name(<$body>::get(body)?),)+
                    kind => return Err(DecodeError::UnknownKind { kind }),
                };
                Ok((id, message))
            }
        }

        $(impl From<$body> for $enum {
            fn from(body: $body) -> Self {
                Self::$name(body)
            }
        })+
    };
}

messages! {
    /// A message of the client.
    Request {
        /// Opens the conversation.
        Hello(Hello) = HELLO,
        /// Asks which files there are.
        List(List) = LIST,
        /// Asks for a queue.
        Queue(Queue) = QUEUE,
        /// Asks for memory.
        Buffer(Buffer) = BUFFER,
        /// Asks for a handle to a file.
        Open(Open) = OPEN,
        /// Gives a handle to a file back.
        CloseFile(CloseFile) = CLOSE_FILE,
        /// Gives a buffer back.
        CloseBuffer(CloseBuffer) = CLOSE_BUFFER,
        /// Gives a queue back.
        CloseQueue(CloseQueue) = CLOSE_QUEUE,
        /// Asks for the counters of all peers.
        Status(Status) = STATUS,
        /// Ends the conversation.
        Goodbye(Goodbye) = GOODBYE,
    }
}

messages! {
    /// A message of the server.
    Reply {
        /// Answers HELLO.
        Welcome(Welcome) = WELCOME,
        /// Answers LIST.
        Files(Page<FileEntry>) = FILES,
        /// Answers QUEUE; a descriptor comes with it.
        QueueIs(QueueIs) = QUEUE_IS,
        /// Answers BUFFER; a descriptor comes with it.
        BufferIs(BufferIs) = BUFFER_IS,
        /// Answers OPEN.
        FileIs(FileIs) = FILE_IS,
        /// Answers what gives something back, and GOODBYE.
        Done(Done) = DONE,
        /// Answers STATUS.
        StatusIs(Page<PeerStatus>) = STATUS_IS,
        /// Answers any request that was not carried out.
        Refused(Refused) = REFUSED,
    }
}

impl Request {
    /// Returns the kind of the answer to a request that is carried out.
    pub const fn reply_kind(&self) -> u16 {
        match self {
            Self::Hello(_) => kind::WELCOME,
            Self::List(_) => kind::FILES,
            Self::Queue(_) => kind::QUEUE_IS,
            Self::Buffer(_) => kind::BUFFER_IS,
            Self::Open(_) => kind::FILE_IS,
            Self::Status(_) => kind::STATUS_IS,
            Self::CloseFile(_) | Self::CloseBuffer(_) | Self::CloseQueue(_) | Self::Goodbye(_) => {
                kind::DONE
            }
        }
    }
}

impl Reply {
    /// Returns the number of descriptors that come with the message.
    pub const fn descriptors(&self) -> usize {
        matches!(self, Self::QueueIs(_) | Self::BufferIs(_)) as usize
    }
}
