//! Display of file names in messages.

use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path in a message. A name that a terminal would not show literally, such as one with a newline or
/// an escape sequence, is quoted as `$'…'`, which shells read back as the same name.
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_os_str().as_bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(is_odd) => f.write_str(text),
            _ => quote(bytes, f),
        }
    }
}

/// Returns whether a terminal interprets the character or does not show it.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn quote(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("$'")?;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\'' | '\\' => {
                    f.write_char('\\')?;
                    f.write_char(c)?;
                }
                c if is_odd(c) => hex(c.encode_utf8(&mut [0; 4]).as_bytes(), f)?,
                c => f.write_char(c)?,
            }
        }
        hex(chunk.invalid(), f)?;
    }
    f.write_char('\'')
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn plain_names_are_shown_as_they_are_and_others_are_quoted() {
        for (name, shown) in [
            (&b"/a/plain name"[..], "/a/plain name"),
            ("gr\u{fc}n 'x' \\".as_bytes(), "gr\u{fc}n 'x' \\"),
            (b"two\nlines", "$'two\\nlines'"),
            (b"\x1b[31mred's\t\\", "$'\\x1b[31mred\\'s\\t\\\\'"),
            (b"\xff-\xc3", "$'\\xff-\\xc3'"),
            ("\u{202e}txt".as_bytes(), "$'\\xe2\\x80\\xaetxt'"),
        ] {
            assert_eq!(Shown(Path::new(OsStr::from_bytes(name))).to_string(), shown);
        }
    }
}
