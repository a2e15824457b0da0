//! Fields of messages: each has a fixed number of bytes, least significant byte first.

use std::fmt;

/// A value at a fixed place in a message.
pub(super) trait Field: Sized {
    /// Bytes in a message.
    const BYTES: usize;
    /// Its type, as the specification calls it.
    const TYPE: &'static str;

    /// Appends the bytes.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads the value from exactly [`BYTES`](Self::BYTES) bytes; `None` if they are no such value.
    fn get(bytes: &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($type:ident),+) => {
        $(impl Field for $type {
            const BYTES: usize = size_of::<Self>();
            const TYPE: &'static str = stringify!($type);

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn get(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_le_bytes)
            }
        })+
    };
}

number!(u16, u32, u64);

/// A text of at most `N` bytes of UTF-8, without control characters, so that it can be printed in one line.
///
/// In a message it takes `N` bytes: the text, then zero bytes.
///
/// ```
/// use vyre_io_client::protocol::Text;
///
/// let text = Text::<64>::new("weights")?;
/// assert_eq!(text.as_str(), "weights");
/// assert!(Text::<4>::new("weights").is_err());
/// assert_eq!(Text::<4>::shortened("a\nbcde").as_str(), "a?bc");
/// # Ok::<(), vyre_io_client::protocol::TextError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<const N: usize>([u8; N]);

/// Reason why a text does not fit a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The text has too many bytes.
    #[error("a text of {len} bytes, where at most {most} are allowed: shorten it")]
    TooLong {
        /// Bytes of the text.
        len: usize,
        /// Most bytes allowed.
        most: usize,
    },
    /// The text has a control character, such as a line break.
    #[error("a control character at byte {at} of a text: remove it")]
    Control {
        /// Position of the character in bytes.
        at: usize,
    },
}

impl<const N: usize> Text<N> {
    /// Creates a field from a text.
    ///
    /// # Errors
    /// [`TextError`] if the text is longer than `N` bytes, or has a control character.
    pub fn new(text: &str) -> Result<Self, TextError> {
        if text.len() > N {
            return Err(TextError::TooLong {
                len: text.len(),
                most: N,
            });
        }
        if let Some(at) = text.find(char::is_control) {
            return Err(TextError::Control { at });
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(bytes))
    }

    /// Creates a field from as much of a text as fits, with `?` in the place of control characters.
    pub fn shortened(text: &str) -> Self {
        let mut bytes = [0; N];
        let mut len = 0;
        for character in text.chars() {
            let character = if character.is_control() {
                '?'
            } else {
                character
            };
            if len + character.len_utf8() > N {
                break;
            }
            len += character.encode_utf8(&mut bytes[len..]).len();
        }
        Self(bytes)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        // Every constructor checked that it is UTF-8.
        std::str::from_utf8(&self.0[..self.len()]).unwrap_or_default()
    }

    /// Returns whether the text has no characters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.0.iter().position(|&byte| byte == 0).unwrap_or(N)
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> Field for Text<N> {
    const BYTES: usize = N;
    const TYPE: &'static str = "text";

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        let text = Self(bytes.try_into().ok()?);
        let (used, rest) = text.0.split_at(text.len());
        let used = std::str::from_utf8(used).ok()?;
        (rest.iter().all(|&byte| byte == 0) && !used.contains(char::is_control)).then_some(text)
    }
}
