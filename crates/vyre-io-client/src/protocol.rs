//! The messages that a client and a server exchange, and both sides of a conversation. Nothing here does I/O.
//!
//! The specification is [docs/handshake.md](https://github.com/vyre-io/vyre-io/blob/main/docs/handshake.md). Each
//! message is one packet: [`Request::encode`] and [`Reply::encode`] make it, [`Request::decode`] and
//! [`Reply::decode`] read it. No bytes make them panic.
//!
//! A server feeds the packets of each connection to a [`Session`]; a client feeds those of its connection to a
//! [`Conversation`].

mod client;
mod field;
mod limits;
mod message;
mod messages;
mod numbers;
mod packet;
mod page;
mod record;
mod refusal;
mod server;
pub mod spec;

pub use client::{Conversation, ReplyError};
pub use field::{Text, TextError};
pub use limits::Limits;
pub use message::{Reply, Request};
pub use messages::{
    Buffer, BufferIs, CloseBuffer, CloseFile, CloseQueue, Done, FileEntry, FileIs, Goodbye, Hello,
    List, Name, Open, PageHead, PeerStatus, Queue, QueueIs, RefusalText, Refused, Status, Welcome,
};
pub use numbers::{NO_LIMIT, NO_LIMIT_32, code, feature, kind, rights, sizes};
pub use packet::{DecodeError, Header, Packet};
pub use page::{Entry, Page, TooManyEntries};
pub use refusal::Code;
pub use server::{Call, Event, Session};
