//! The archive that a kernel unpacks at boot: cpio in the format "newc".

/// An archive under construction. A folder precedes what is in it.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

impl Archive {
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, &[]);
    }

    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) {
        self.entry(path, FILE, bytes);
    }

    pub(crate) fn program(&mut self, path: &str, bytes: &[u8]) {
        self.entry(path, PROGRAM, bytes);
    }

    pub(crate) fn link(&mut self, path: &str, to: &str) {
        self.entry(path, LINK, to.as_bytes());
    }

    /// Adds the folders above a path. The kernel takes one that is there already.
    pub(crate) fn folders_of(&mut self, path: &str) {
        for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
            self.folder(&path[..at]);
        }
    }

    /// Returns the whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        let path = path.trim_start_matches('/');
        self.entries += 1;
        // inode, mode, user, group, links, time, size, device, its minor, that of a node, its minor, length of the
        // name with its zero, checksum.
        let (size, name) = (bytes.len() as u32, path.len() as u32 + 1);
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        fields.iter().for_each(|field| self.bytes.extend_from_slice(format!("{field:08X}").as_bytes()));
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Headers and contents begin at multiples of 4.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries as any reader of the format finds them: mode, name, contents.
    fn entries(bytes: &[u8]) -> Vec<(u32, String, Vec<u8>)> {
        let (mut at, mut found) = (0, Vec::new());
        loop {
            let header = &bytes[at..at + 110];
            assert_eq!(&header[..6], b"070701");
            let field = |number: usize| {
                let digits = std::str::from_utf8(&header[6 + 8 * number..14 + 8 * number]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name) = (field(1), field(6) as usize, field(11) as usize);
            let text = String::from_utf8(bytes[at + 110..at + 109 + name].to_vec()).unwrap();
            let start = (at + 110 + name).next_multiple_of(4);
            if text == "TRAILER!!!" {
                assert_eq!(start, bytes.len());
                return found;
            }
            found.push((mode, text, bytes[start..start + size].to_vec()));
            at = (start + size).next_multiple_of(4);
        }
    }

    #[test]
    fn an_archive_reads_back() {
        let mut archive = Archive::default();
        archive.folders_of("/a/bc/d");
        archive.file("/a/bc/d", b"12345");
        archive.program("init", b"");
        archive.link("l", "a/bc");
        let found = entries(&archive.finish());
        let expected = [
            (FOLDER, "a", ""),
            (FOLDER, "a/bc", ""),
            (FILE, "a/bc/d", "12345"),
            (PROGRAM, "init", ""),
            (LINK, "l", "a/bc"),
        ];
        let expected = expected.map(|(mode, name, text)| (mode, name.to_owned(), text.as_bytes().to_vec()));
        assert_eq!(found, expected);
    }
}
