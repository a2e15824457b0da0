//! Packets: the header of a message, and the reasons why bytes are none.

use super::sizes::{HEADER_BYTES, MAGIC, MESSAGE_BYTES};

const HEADER: usize = HEADER_BYTES as usize;
const MOST: usize = MESSAGE_BYTES as usize;

/// One message as it is sent: a packet of the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet(Vec<u8>);

impl Packet {
    /// Creates a packet from a body, which `put` appends.
    pub(super) fn new(kind: u16, id: u32, put: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + 96);
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&id.to_le_bytes());
        put(&mut bytes);
        // Every body is shorter than a message: `Page::new` limits the only one of variable length.
        debug_assert!(bytes.len() <= MOST);
        let length = bytes.len() as u32;
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        Self(bytes)
    }

    /// Returns the bytes to send, as one packet.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Header of a message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Kind of the message: see [`kind`](super::kind).
    pub kind: u16,
    /// Number of the request, which its answer repeats.
    pub id: u32,
}

/// Reason why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet is shorter than the header.
    #[error("a packet of {have} bytes, shorter than a header of {HEADER_BYTES}")]
    TooShort {
        /// Bytes of the packet.
        have: usize,
    },
    /// The packet is longer than any message.
    #[error("a packet of more than {MESSAGE_BYTES} bytes")]
    TooLong,
    /// The packet does not begin with the magic.
    #[error(
        "a packet that begins with {found:#010x} instead of {MAGIC:#010x}: not of this protocol"
    )]
    BadMagic {
        /// First four bytes, as a number.
        found: u32,
    },
    /// The reserved field of the header is not zero.
    #[error("{found:#x} in the reserved field of a header, which must be zero")]
    ReservedNotZero {
        /// Content of the field.
        found: u16,
    },
    /// The length in the header is not that of the packet.
    #[error("a header that says {said} bytes, in a packet of {have}")]
    BadLength {
        /// Bytes that the header says.
        said: u32,
        /// Bytes of the packet.
        have: usize,
    },
    /// The request has the number 0, which belongs to no request.
    #[error("a request with the number 0")]
    NoNumber,
    /// The kind is not that of a message that this side receives.
    #[error("a message of the kind {kind:#x}, which is unknown here")]
    UnknownKind {
        /// Kind of the message.
        kind: u16,
    },
    /// The body is shorter than its fields.
    #[error("a body of {have} bytes for the fields of {name}, which have {need}")]
    BodyTooShort {
        /// Name of the message.
        name: &'static str,
        /// Bytes of the fields.
        need: usize,
        /// Bytes of the body.
        have: usize,
    },
    /// A text has bytes that are not UTF-8, a control character, or a byte after its end that is not zero.
    #[error("the field {field} of {name} is no text")]
    BadText {
        /// Name of the message.
        name: &'static str,
        /// Name of the field.
        field: &'static str,
    },
    /// The entries of a page do not fit the message, or are shorter than their fields.
    #[error("{count} entries of {entry_bytes} bytes do not fit the message {name}")]
    BadEntries {
        /// Name of the message.
        name: &'static str,
        /// Number of entries.
        count: u32,
        /// Bytes of each.
        entry_bytes: u32,
    },
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) | u16::from(bytes[at + 1]) << 8
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at)) | u32::from(le16(bytes, at + 2)) << 16
}

impl Header {
    /// Splits a packet into its header and its body.
    ///
    /// # Errors
    /// [`DecodeError`] if the packet breaks a rule of the header.
    pub fn split(packet: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let have = packet.len();
        if have > MOST {
            return Err(DecodeError::TooLong);
        }
        let Some((header, body)) = packet.split_at_checked(HEADER) else {
            return Err(DecodeError::TooShort { have });
        };
        let found = le32(header, 0);
        if found != MAGIC {
            return Err(DecodeError::BadMagic { found });
        }
        let found = le16(header, 6);
        if found != 0 {
            return Err(DecodeError::ReservedNotZero { found });
        }
        let said = le32(header, 8);
        if said as usize != have {
            return Err(DecodeError::BadLength { said, have });
        }
        let (kind, id) = (le16(header, 4), le32(header, 12));
        Ok((Self { kind, id }, body))
    }

    /// Returns the number that an answer to a packet repeats: that of its header if the packet has the magic and
    /// a header, else 0.
    pub(super) fn id_of(packet: &[u8]) -> u32 {
        if packet.len() >= HEADER && le32(packet, 0) == MAGIC {
            le32(packet, 12)
        } else {
            0
        }
    }
}
