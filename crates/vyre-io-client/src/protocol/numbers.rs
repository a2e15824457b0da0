//! The numbers of the protocol. The C header and the tables of the specification are generated from them.

pub use vyre_ioq::abi::{Row, Table};

/// Defines a module of constants, and its `TABLE`. The documentation of a constant is also its meaning in the
/// specification and its comment in the C header: plain text, without links.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $heading:literal, $prefix:literal, $columns:literal;
        mod $module:ident: $type:ty {
            $($(#[doc = $meaning:literal])+ $name:ident = $value:literal $(, $cells:literal)?;)+
        }
    ) => {
        $(#[doc = $about])+
        pub mod $module {
            $($(#[doc = $meaning])+ pub const $name: $type = $value;)+

            use super::{Row, Table};

            pub(in super::super) const TABLE: Table = Table {
                about: concat!($($about),+),
                heading: $heading,
                prefix: $prefix,
                columns: $columns,
                rows: &[$(Row {
                    name: stringify!($name),
                    value: $value,
                    literal: stringify!($value),
                    last: None,
                    cells: concat!($($cells)?),
                    meaning: concat!($($meaning),+),
                }),+],
            };
        }
    };
}

table! {
    /// Versions and sizes.
    "Sizes", "", "value | name | meaning";
    mod sizes: u32 {
        /// First field of every message: the bytes `VYHS`.
        MAGIC = 0x53485956;
        /// Major version of the protocol: both sides must have the same.
        MAJOR = 1;
        /// Minor version: counts additions that either side may ignore.
        MINOR = 0;
        /// Bytes of the header of a message.
        HEADER_BYTES = 16;
        /// Most bytes of a message.
        MESSAGE_BYTES = 4096;
        /// Most bytes of a name: of a file, or of a client.
        NAME_BYTES = 64;
        /// Most bytes of the text of a refusal.
        TEXT_BYTES = 240;
        /// Buffers count in whole pages of so many bytes.
        PAGE_BYTES = 4096;
    }
}

table! {
    /// Kinds of messages. Those of answers have the bit 0x8000.
    "Kinds", "KIND_", "value | name | from | meaning";
    mod kind: u16 {
        /// Opens the conversation.
        HELLO = 1, "client";
        /// Asks which files there are.
        LIST = 2, "client";
        /// Asks for a queue.
        QUEUE = 3, "client";
        /// Asks for memory that requests of a queue may name.
        BUFFER = 4, "client";
        /// Asks for a handle to a file.
        OPEN = 5, "client";
        /// Gives a handle to a file back.
        CLOSE_FILE = 6, "client";
        /// Gives a buffer back.
        CLOSE_BUFFER = 7, "client";
        /// Gives a queue back, with all handles that are bound to it.
        CLOSE_QUEUE = 8, "client";
        /// Asks for the counters of all peers.
        STATUS = 9, "client";
        /// Ends the conversation.
        GOODBYE = 10, "client";
        /// Answers HELLO: the limits of this client.
        WELCOME = 0x8001, "server";
        /// Answers LIST: a page of files.
        FILES = 0x8002, "server";
        /// Answers QUEUE. The descriptor of the queue's memory comes with it.
        QUEUE_IS = 0x8003, "server";
        /// Answers BUFFER. The descriptor of the memory comes with it.
        BUFFER_IS = 0x8004, "server";
        /// Answers OPEN: a handle.
        FILE_IS = 0x8005, "server";
        /// Answers what gives something back, and GOODBYE: it is done.
        DONE = 0x8006, "server";
        /// Answers STATUS: a page of peers.
        STATUS_IS = 0x8009, "server";
        /// Answers any request: it was not carried out.
        REFUSED = 0x80ff, "server";
    }
}

table! {
    /// Features of the handshake.
    "Features of the handshake", "FEATURE_", "value | name | meaning";
    mod feature: u32 {
        /// The server answers STATUS to this client.
        STATUS = 1;
    }
}

table! {
    /// Rights to a file.
    "Rights", "RIGHT_", "value | name | meaning";
    mod rights: u32 {
        /// READ, PREFETCH and MAP requests.
        READ = 1;
        /// WRITE requests.
        WRITE = 2;
        /// SYNC requests, and DURABLE writes together with WRITE.
        SYNC = 4;
    }
}

table! {
    /// Codes of refusals: one for each cause.
    "Codes", "CODE_", "value | name | cut | meaning";
    mod code: u32 {
        /// A packet broke a rule of the messages.
        MALFORMED = 1, "yes";
        /// The server does not speak the major version of the client. The refusal has the one that it speaks.
        VERSION = 2, "yes";
        /// The first message was not HELLO, or a later one was.
        OUT_OF_ORDER = 3, "yes";
        /// The server does not know this kind of request.
        UNKNOWN_REQUEST = 4, "no";
        /// The client may not do this.
        NOT_PERMITTED = 5, "no";
        /// The server offers no file of this name.
        NO_SUCH_FILE = 6, "no";
        /// This connection has no queue of this number.
        NO_SUCH_QUEUE = 7, "no";
        /// The queue has no such file handle or buffer handle.
        NO_SUCH_HANDLE = 8, "no";
        /// The client has as many queues as it may have.
        TOO_MANY_QUEUES = 9, "no";
        /// The client has as many buffers as it may have.
        TOO_MANY_BUFFERS = 10, "no";
        /// The buffer would exceed the bytes of buffers that the client may have.
        TOO_MANY_BUFFER_BYTES = 11, "no";
        /// The client has as many open files as it may have.
        TOO_MANY_FILES = 12, "no";
        /// A queue has at least 1 slot, and no more than the limits allow.
        BAD_SLOTS = 13, "no";
        /// A buffer has at least 1 byte.
        BAD_BYTES = 14, "no";
        /// The request before is still being served.
        BUSY = 15, "no";
        /// The server has as many clients as it may have.
        TOO_MANY_CLIENTS = 16, "yes";
        /// The server is about to end.
        SHUTTING_DOWN = 17, "yes";
        /// The server has no memory or no descriptors left.
        NO_RESOURCES = 18, "no";
        /// The server cannot open the file.
        FILE_FAILED = 19, "no";
        /// Transfers did not end in time, so what was to be given back is still in use.
        STILL_IN_USE = 20, "no";
        /// The client did not say HELLO in time, or did not take its answers.
        TOO_SLOW = 21, "yes";
        /// The server failed.
        INTERNAL = 22, "no";
    }
}

/// All tables.
pub const TABLES: &[Table] = &[
    sizes::TABLE,
    kind::TABLE,
    feature::TABLE,
    rights::TABLE,
    code::TABLE,
];

/// No limit, as a number of 64 bits of [`Welcome`](super::Welcome).
pub const NO_LIMIT: u64 = u64::MAX;
/// No limit, as a number of 32 bits of [`Welcome`](super::Welcome).
pub const NO_LIMIT_32: u32 = u32::MAX;
