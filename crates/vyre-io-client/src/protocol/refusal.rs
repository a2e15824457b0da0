//! Reasons for which a server refuses a request.

use std::fmt;

use super::code;
use super::messages::{RefusalText, Refused};
use super::sizes::{MAJOR, MINOR};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:ident, $text:literal;)+) => {
        /// Cause of a refusal: see [`code`](super::code).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
            /// A code of a later version.
            Other(u32),
        }

        impl Code {
            /// Every known code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the code of a number.
            pub const fn from_raw(raw: u32) -> Self {
                match raw {
                    $(code::$code => Self::$name,)+
                    raw => Self::Other(raw),
                }
            }

            /// Returns the number.
            pub const fn raw(self) -> u32 {
                match self {
                    $(Self::$name => code::$code,)+
                    Self::Other(raw) => raw,
                }
            }

            /// Returns the name, such as `NO_SUCH_FILE`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($code),)+
                    Self::Other(_) => "unknown",
                }
            }

            /// Returns the cause in words, with advice.
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Other(_) => "for a reason of a later version of the protocol",
                }
            }
        }
    };
}

codes! {
    /// A packet broke a rule of the messages.
    Malformed = MALFORMED, "a message breaks a rule of the protocol";
    /// The server does not speak the client's major version.
    Version = VERSION, "the server does not speak this major version: use a client of the server's version";
    /// HELLO was not the first message, or came twice.
    OutOfOrder = OUT_OF_ORDER, "HELLO is the first message, and no later one";
    /// The server does not know the kind of request.
    UnknownRequest = UNKNOWN_REQUEST, "the server does not know this kind of request: it is older than the client";
    /// The client may not do this.
    NotPermitted = NOT_PERMITTED, "the server's policy does not permit it to this client";
    /// There is no file of this name.
    NoSuchFile = NO_SUCH_FILE, "the server offers no file of this name to this client: LIST names those that it offers";
    /// The connection has no queue of this number.
    NoSuchQueue = NO_SUCH_QUEUE, "this connection has no queue of this number";
    /// The queue has no such handle.
    NoSuchHandle = NO_SUCH_HANDLE, "the queue has no such handle";
    /// No further queue is allowed.
    TooManyQueues = TOO_MANY_QUEUES, "the client has as many queues as it may have: close one first";
    /// No further buffer is allowed.
    TooManyBuffers = TOO_MANY_BUFFERS, "the client has as many buffers as it may have: close one first";
    /// No more bytes of buffers are allowed.
    TooManyBufferBytes = TOO_MANY_BUFFER_BYTES, "the buffer would exceed the client's bytes of buffers: ask for less, or close one first";
    /// No further open file is allowed.
    TooManyFiles = TOO_MANY_FILES, "the client has as many open files as it may have: close one first";
    /// No queue has so many slots.
    BadSlots = BAD_SLOTS, "a queue has at least 1 slot, and no more than WELCOME said";
    /// No buffer has so many bytes.
    BadBytes = BAD_BYTES, "a buffer has at least 1 byte";
    /// The request before is still being served.
    Busy = BUSY, "the request before is still being served: send one at a time";
    /// No further client is allowed.
    TooManyClients = TOO_MANY_CLIENTS, "the server has as many clients as it may have: try again later";
    /// The server is about to end.
    ShuttingDown = SHUTTING_DOWN, "the server is about to end";
    /// The server has no memory or no descriptors left.
    NoResources = NO_RESOURCES, "the server has no memory or no descriptors left";
    /// The server cannot open the file.
    FileFailed = FILE_FAILED, "the server cannot open the file: its log says why";
    /// Transfers did not end in time.
    StillInUse = STILL_IN_USE, "transfers did not end in time: it is still in use";
    /// The client was too slow.
    TooSlow = TOO_SLOW, "the client did not say HELLO in time, or did not take its answers";
    /// The server failed.
    Internal = INTERNAL, "the server failed: its log says why";
}

impl Code {
    /// Returns whether the server ends the connection after this refusal.
    pub const fn cuts(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::Version
                | Self::OutOfOrder
                | Self::TooManyClients
                | Self::ShuttingDown
                | Self::TooSlow
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(raw) => write!(f, "code {raw}"),
            known => f.pad(known.name()),
        }
    }
}

impl Refused {
    /// Creates a refusal with the explanation of its code.
    pub fn because(code: Code) -> Self {
        Self::with_text(code, code.explanation())
    }

    /// Creates a refusal with a text, which is shortened if it is too long.
    pub fn with_text(code: Code, text: &str) -> Self {
        Self {
            code: code.raw(),
            major: MAJOR as u16,
            minor: MINOR as u16,
            text: RefusalText::shortened(text),
        }
    }

    /// Returns the cause.
    pub const fn cause(&self) -> Code {
        Code::from_raw(self.code)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause(), self.text)
    }
}

impl std::error::Error for Refused {}
