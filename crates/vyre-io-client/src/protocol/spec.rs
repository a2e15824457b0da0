//! The tables of the specification as data. `docs/handshake.md` and the C header are generated from them.

use super::messages::{
    Buffer, BufferIs, CloseBuffer, CloseFile, CloseQueue, Done, FileEntry, FileIs, Goodbye, Hello,
    List, Open, PageHead, PeerStatus, Queue, QueueIs, Refused, Status, Welcome,
};
use super::record::Record;

pub use super::numbers::{Row, TABLES, Table};
pub use super::record::FieldRow;

/// A body of a message, the head of a page, or an entry of a page.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Name, such as `HELLO` or `Entry of FILES`.
    pub name: &'static str,
    /// Bytes of the fields.
    pub bytes: usize,
    /// The fields, in order and without gaps.
    pub fields: &'static [FieldRow],
}

const fn body<R: Record>() -> Body {
    Body {
        name: R::NAME,
        bytes: R::BYTES,
        fields: R::FIELDS,
    }
}

/// All bodies, in the order of the specification.
pub const BODIES: &[Body] = &[
    body::<Hello>(),
    body::<Welcome>(),
    body::<List>(),
    body::<PageHead>(),
    body::<FileEntry>(),
    body::<Queue>(),
    body::<QueueIs>(),
    body::<Buffer>(),
    body::<BufferIs>(),
    body::<Open>(),
    body::<FileIs>(),
    body::<CloseFile>(),
    body::<CloseBuffer>(),
    body::<CloseQueue>(),
    body::<Status>(),
    body::<PeerStatus>(),
    body::<Goodbye>(),
    body::<Done>(),
    body::<Refused>(),
];
