use std::ops::Bound;
use std::os::fd::AsRawFd;

use rustix::fs::Mode;
use vyre_uring::{Buffer, BufferSlot};

use super::*;
use crate::buffer_table::BufferTable;
use crate::ranges::buffer_range;

fn refusal(flags: OFlags, rights: Rights) -> Option<TableError> {
    let file = tempfile::tempfile().expect("a file");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = flags | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).expect("it opens");
    FileEntry::new(opened, 0..1, rights).err()
}

#[test]
fn rights_do_not_exceed_what_a_file_is_open_for() {
    let (read, write) = (Rights::READ, Rights::WRITE);
    assert_eq!(refusal(OFlags::WRONLY, read), Some(TableError::NotReadable));
    assert_eq!(
        refusal(OFlags::RDONLY, read | write),
        Some(TableError::NotWritable)
    );
    let appending = OFlags::RDWR | OFlags::APPEND;
    assert_eq!(refusal(appending, write), Some(TableError::Appending));
    for (flags, rights) in [
        (OFlags::RDONLY, read | Rights::SYNC),
        (OFlags::WRONLY, write),
        (OFlags::RDWR, Rights::all()),
        (appending, read),
    ] {
        assert_eq!(refusal(flags, rights), None);
    }
}

#[test]
fn pages_that_do_not_all_fit_leave_none_behind() {
    let mut buffers = BufferTable::new();
    buffers.entries = HandleTable::with_limit(8);
    let memory = Buffer::anonymous(4096).expect("memory");
    let first = buffers.insert(memory.clone()).expect("room");
    let refused = buffers.insert_pages(memory.clone(), 512, Rights::READ);
    assert_eq!(refused, Err(TableError::Full));
    assert_eq!(buffers.entries.len(), 1);
    assert_eq!(buffers.users(BufferSlot::new(0)), 1);
    assert!(buffers.entries.get(first.raw()).is_some());
    let pages = buffers.insert_pages(memory, 700, Rights::READ);
    assert_eq!(pages.expect("room for five").len(), 5);
}

#[test]
fn a_descriptor_that_opens_nothing_is_refused() {
    for rights in [Rights::READ, Rights::WRITE, Rights::SYNC, Rights::empty()] {
        assert_eq!(refusal(OFlags::PATH, rights), Some(TableError::PathOnly));
    }
}

#[test]
fn a_range_without_an_end_is_the_rest() {
    let mut files = FileTable::new();
    let open = || tempfile::tempfile().expect("a file");
    let mut range = |range: (Bound<u64>, Bound<u64>)| {
        let handle = files.insert_range(open(), range, Rights::READ)?;
        let (_, entry) = files.entries.get(handle.raw()).expect("it is there");
        Ok::<_, TableError>((entry.base, entry.len))
    };
    let (from, until) = (Bound::Included(7), Bound::Excluded(u64::MAX));
    assert_eq!(
        range((Bound::Unbounded, Bound::Unbounded)),
        Ok((0, MAX_FILE))
    );
    assert_eq!(range((from, until)), Ok((7, MAX_FILE - 7)));
    assert_eq!(range((from, Bound::Included(8))), Ok((7, 2)));
    assert_eq!(range((Bound::Excluded(7), Bound::Excluded(9))), Ok((8, 1)));
    assert!(range((from, Bound::Excluded(MAX_FILE + 1))).is_err());
    assert!(range((until, Bound::Unbounded)).is_err());
    let buffer = Buffer::anonymous(4096).expect("memory");
    assert_eq!(buffer_range(96.., &buffer), 96..4096);
}

#[test]
fn a_directory_can_be_synced_and_nothing_else() {
    let open = || std::fs::File::open(std::env::temp_dir()).expect("a directory");
    let refused = FileEntry::new(open().into(), 0..1, Rights::READ | Rights::SYNC).err();
    assert_eq!(refused, Some(TableError::Directory));
    assert!(FileEntry::new(open().into(), 0..1, Rights::SYNC).is_ok());
}
