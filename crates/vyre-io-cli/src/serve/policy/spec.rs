//! One file that is served, as `NAME=PATH[:rights[:range]]`.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::Error as _;
use vyre_io::Rights;
use vyre_io_client::protocol::Name;

use crate::args::Size;

/// The rights of a file: a set of the letters `r` (READ), `w` (WRITE) and `s` (SYNC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRights(pub(crate) Rights);

impl Default for FileRights {
    fn default() -> Self {
        Self(Rights::READ)
    }
}

impl FromStr for FileRights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rights = Rights::empty();
        for letter in text.chars() {
            let right = match letter {
                'r' => Rights::READ,
                'w' => Rights::WRITE,
                's' => Rights::SYNC,
                _ => Rights::empty(),
            };
            if right.is_empty() || rights.contains(right) {
                return Err(format!(
                    "{text:?} are no rights: give r (read), w (write) and s (sync), each once"
                ));
            }
            rights |= right;
        }
        if !rights.intersects(Rights::READ | Rights::WRITE) {
            return Err(format!(
                "{text:?} lets nobody read or write: give r, w or both"
            ));
        }
        Ok(Self(rights))
    }
}

/// Bytes of a file: `START-END`, where END is the first byte that does not belong to it, `START-` or
/// `START+LENGTH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRange(pub(crate) Range<u64>);

impl Default for FileRange {
    fn default() -> Self {
        Self(0..u64::MAX)
    }
}

impl FromStr for FileRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range: give START-END, START- or START+LENGTH");
        let number = |text: &str| text.parse::<Size>().map_err(|_| wrong());
        let (start, end) = if let Some((start, length)) = text.split_once('+') {
            let start = number(start)?.0;
            let end = start.checked_add(number(length)?.0);
            (start, end.ok_or_else(wrong)?)
        } else {
            let (start, end) = text.split_once('-').ok_or_else(wrong)?;
            let end = match end {
                "" => u64::MAX,
                end => number(end)?.0,
            };
            (number(start)?.0, end)
        };
        match start < end {
            true => Ok(Self(start..end)),
            false => Err(format!("the range {text:?} has no bytes")),
        }
    }
}

macro_rules! deserialize_from_str {
    ($($type:ty),+) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}
deserialize_from_str!(FileRights, FileRange);

/// A file to serve.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct FileSpec {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) rights: FileRights,
    #[serde(default)]
    pub(crate) range: FileRange,
    /// Users and groups whose peers may open it. Without any, all peers may.
    #[serde(default)]
    pub(crate) users: Vec<super::Name>,
    #[serde(default)]
    pub(crate) groups: Vec<super::Name>,
}

impl FileSpec {
    /// Returns the reason for which no peer could ask for the name.
    pub(crate) fn fault(&self) -> Option<String> {
        let why = match Name::new(&self.name) {
            Ok(name) if name.is_empty() => "give it at least one character".into(),
            Ok(_) => return None,
            Err(error) => error.to_string(),
        };
        Some(format!(
            "{:?} cannot be the name of a file: {why}",
            self.name
        ))
    }
}

impl FromStr for FileSpec {
    type Err = String;

    /// A path may contain colons: what follows the last ones is rights and range only if it can be.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, rest)) = text.split_once('=') else {
            return Err("expected NAME=PATH[:rights[:range]]".into());
        };
        let (path, rights, range) = parts(rest);
        if path.is_empty() {
            return Err("the path is empty: give NAME=PATH[:rights[:range]]".into());
        }
        let spec = Self {
            name: name.into(),
            path: path.into(),
            rights,
            range,
            users: Vec::new(),
            groups: Vec::new(),
        };
        spec.fault().map_or(Ok(spec), Err)
    }
}

fn parts(text: &str) -> (&str, FileRights, FileRange) {
    if let Some((before, range)) = text.rsplit_once(':')
        && let Ok(range) = range.parse()
        && let Some((path, rights)) = before.rsplit_once(':')
        && let Ok(rights) = rights.parse()
    {
        return (path, rights, range);
    }
    if let Some((path, rights)) = text.rsplit_once(':')
        && let Ok(rights) = rights.parse()
    {
        return (path, rights, FileRange::default());
    }
    (text, FileRights::default(), FileRange::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_with_rights_and_ranges() {
        let rw = Rights::READ | Rights::WRITE;
        for (text, path, rights, range) in [
            ("a=/x", "/x", Rights::READ, 0..u64::MAX),
            ("a=/x:rw", "/x", rw, 0..u64::MAX),
            ("a=/x:r:4k-8k", "/x", Rights::READ, 4096..8192),
            ("a=/x:wr:4k+1", "/x", rw, 4096..4097),
            ("a=/x:r:5-", "/x", Rights::READ, 5..u64::MAX),
            ("a=/x:y", "/x:y", Rights::READ, 0..u64::MAX),
            ("a=b=c:rws", "b=c", Rights::all(), 0..u64::MAX),
            ("a=/x:4k-8k", "/x:4k-8k", Rights::READ, 0..u64::MAX),
        ] {
            let spec: FileSpec = text.parse().expect(text);
            assert_eq!(spec.name, "a");
            assert_eq!(
                (spec.path, spec.rights.0, spec.range.0),
                (path.into(), rights, range)
            );
        }
        for text in ["", "a", "=x", "a=", "a=:r", "a\nb=/x"] {
            assert!(text.parse::<FileSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_and_rights_that_say_nothing_are_refused() {
        for text in [
            "",
            "5",
            "8-4",
            "4-4",
            "4+0",
            "x-y",
            "-",
            "+",
            "1-2-3",
            "18446744073709551615+1",
        ] {
            assert!(text.parse::<FileRange>().is_err(), "{text}");
        }
        for text in ["", "s", "rr", "x", "r w", "R"] {
            assert!(text.parse::<FileRights>().is_err(), "{text}");
        }
    }
}
