//! The bodies of the messages.

use super::field::{Field, Text};
use super::packet::DecodeError;
use super::record::{FieldRow, Record, record, take};
use super::sizes::{NAME_BYTES, TEXT_BYTES};

/// Name of a file or of a client.
pub type Name = Text<{ NAME_BYTES as usize }>;
/// Text of a refusal.
pub type RefusalText = Text<{ TEXT_BYTES as usize }>;

record! {
    /// The client opens the conversation.
    Hello = "HELLO" {
        /// Major version that the client speaks.
        major: u16,
        /// Minor version that the client speaks.
        minor: u16,
        /// Features of the handshake that the client knows.
        features: u32,
        /// Name of the client, for the server's log. It may be empty.
        name: Name,
    }
}

record! {
    /// The server accepts a client, and tells it its limits. A limit with all bits set is none.
    Welcome = "WELCOME" {
        /// Major version that the server speaks.
        major: u16,
        /// Minor version that the server speaks.
        minor: u16,
        /// Features of the handshake that the server offers to this client.
        features: u32,
        /// Number by which the server's log and STATUS_IS name this client. Never 0.
        peer: u64,
        /// Most queues at a time.
        queues: u32,
        /// Most slots of a queue.
        slots: u32,
        /// Most buffers at a time.
        buffers: u32,
        /// Most open files at a time.
        open_files: u32,
        /// Most bytes of all buffers, each in whole pages.
        buffer_bytes: u64,
        /// Most operations that start in a second, of all queues together.
        operations_per_second: u64,
        /// Most bytes that operations ask for in a second, of all queues together.
        bytes_per_second: u64,
        /// Most bytes of buffers that operations in flight use, of all queues together.
        bytes_in_flight: u64,
        /// Most operations in flight, of all queues together.
        operations_in_flight: u32,
        /// Files that the server offers to this client.
        files: u32,
    }
}

record! {
    /// The client asks which files there are.
    List = "LIST" {
        /// 0 for the first page, and for each further one what the page before gave.
        cursor: u64,
    }
}

record! {
    /// The head of a page: of FILES and of STATUS_IS.
    PageHead = "Head of a page" {
        /// Cursor of the next page; 0 if this is the last.
        next: u64,
        /// Number of entries.
        count: u32,
        /// Bytes of each entry. The entries are the last bytes of the message.
        entry_bytes: u32,
    }
}

record! {
    /// An entry of FILES: a file that the client may open.
    FileEntry = "Entry of FILES" {
        /// First byte of the file that a handle covers.
        start: u64,
        /// End of that range: the byte after the last. With all bits set, the range grows with the file.
        end: u64,
        /// Rights that a handle may have.
        rights: u32,
        /// Offsets, counts and addresses of requests must be multiples of this; 1 for a file without direct I/O.
        alignment: u32,
        /// Name by which the client opens the file.
        name: Name,
    }
}

record! {
    /// The client asks for a queue.
    Queue = "QUEUE" {
        /// Number of slots.
        slots: u32,
        /// Features of the queue's ABI that the client wishes.
        features: u32,
    }
}

record! {
    /// The server has made a queue. The descriptor of its memory comes with the message.
    QueueIs = "QUEUE_IS" {
        /// Number of the queue on this connection.
        queue: u32,
        /// Number of slots: as many as the client asked for.
        slots: u32,
        /// Bytes of the queue. Its memory has at least so many.
        bytes: u64,
        /// Features of the queue's ABI that the queue has. Other bits than the client wished may be set.
        features: u32,
        /// Major version of the queue's ABI.
        abi_major: u16,
        /// Minor version of the queue's ABI.
        abi_minor: u16,
    }
}

record! {
    /// The client asks for memory that requests of a queue may name.
    Buffer = "BUFFER" {
        /// Bytes of the buffer.
        bytes: u64,
        /// Number of the queue whose requests may name it.
        queue: u32,
    }
}

record! {
    /// The server has made a buffer. The descriptor of its memory comes with the message.
    BufferIs = "BUFFER_IS" {
        /// Bytes of the buffer: as many as the client asked for. Its memory has at least so many.
        bytes: u64,
        /// Buffer handle for requests of the queue.
        handle: u32,
    }
}

record! {
    /// The client asks for a handle to a file.
    Open = "OPEN" {
        /// Number of the queue whose requests may name the file.
        queue: u32,
        /// Rights that the handle is to have; 0 for all that FILES gives.
        rights: u32,
        /// Name of the file, as in FILES.
        name: Name,
    }
}

record! {
    /// The server gives out a handle to a file.
    FileIs = "FILE_IS" {
        /// File handle for requests of the queue.
        handle: u32,
        /// Rights of the handle.
        rights: u32,
        /// First byte of the file that the handle covers. Offsets of requests count from it.
        start: u64,
        /// End of that range: the byte after the last. With all bits set, the range grows with the file.
        end: u64,
        /// Bytes of the range that the file holds now.
        length: u64,
        /// Offsets, counts and addresses of requests must be multiples of this; 1 for a file without direct I/O.
        alignment: u32,
    }
}

record! {
    /// The client gives a handle to a file back.
    CloseFile = "CLOSE_FILE" {
        /// Number of the queue.
        queue: u32,
        /// File handle.
        handle: u32,
    }
}

record! {
    /// The client gives a buffer back.
    CloseBuffer = "CLOSE_BUFFER" {
        /// Number of the queue.
        queue: u32,
        /// Buffer handle.
        handle: u32,
    }
}

record! {
    /// The client gives a queue back, with all handles that are bound to it.
    CloseQueue = "CLOSE_QUEUE" {
        /// Number of the queue.
        queue: u32,
    }
}

record! {
    /// The client asks for the counters of all peers.
    Status = "STATUS" {
        /// 0 for the first page, and for each further one what the page before gave.
        cursor: u64,
    }
}

record! {
    /// An entry of STATUS_IS: a peer and its counters. The entry of peer 0 has the sums of all peers that have gone,
    /// the time since the server started, and the server's own process.
    PeerStatus = "Entry of STATUS_IS" {
        /// Number of the peer, as in WELCOME.
        peer: u64,
        /// Milliseconds since it connected.
        connected_ms: u64,
        /// Bytes of its buffers, in whole pages.
        buffer_bytes: u64,
        /// Requests of its queues that were claimed.
        claimed: u64,
        /// Requests that succeeded.
        succeeded: u64,
        /// Requests that failed, whatever the errno.
        failed: u64,
        /// Bytes that READ requests moved.
        bytes_read: u64,
        /// Bytes that WRITE requests moved.
        bytes_written: u64,
        /// Steps of its queues that the queue's ABI does not allow.
        device_faults: u64,
        /// Requests of the handshake that were refused.
        refusals: u64,
        /// Process that connected.
        pid: u32,
        /// User that connected.
        uid: u32,
        /// Its queues now.
        queues: u32,
        /// Its buffers now.
        buffers: u32,
        /// Its open files now.
        open_files: u32,
        /// 1 while the server waits for transfers of this peer, which has gone, to end.
        leaving: u32,
        /// Name that it gave in HELLO.
        name: Name,
    }
}

record! {
    /// The client ends the conversation.
    Goodbye = "GOODBYE" {}
}

record! {
    /// The server has done what was asked.
    Done = "DONE" {}
}

record! {
    /// The server has not carried out a request. With the number 0 it answers none: the server ends the
    /// connection, and says why.
    Refused = "REFUSED" {
        /// Cause.
        code: u32,
        /// Major version that the server speaks.
        major: u16,
        /// Minor version that the server speaks.
        minor: u16,
        /// Explanation for people.
        text: RefusalText,
    }
}
