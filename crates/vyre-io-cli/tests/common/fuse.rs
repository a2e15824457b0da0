//! FUSE file system in memory, with chosen faults.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session,
    TimeOrNow, WriteFlags,
};

/// Faults of the file system. It never has files without names.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Error of a close.
    pub(crate) flush: Option<Errno>,
    /// Error of syncing a directory.
    pub(crate) fsyncdir: Option<Errno>,
    /// Error of changes of length and of mode.
    pub(crate) setattr: Option<Errno>,
    /// Offset from which bytes cannot be read.
    pub(crate) bad_from: Option<u64>,
    /// Size that files state. They are then read past the page cache.
    pub(crate) size: Option<u64>,
}

struct File {
    data: Vec<u8>,
    mode: u32,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, u64>,
    files: HashMap<u64, File>,
    made: u64,
}

pub(crate) struct Fuse {
    faults: Faults,
    state: Mutex<State>,
}

/// Mount of the file system. Dropping it unmounts it.
pub(crate) struct Mounted {
    session: Option<BackgroundSession>,
    dir: tempfile::TempDir,
}

impl Mounted {
    /// Mounts the file system with a file `src`. Returns `None` where that is not permitted.
    pub(crate) fn new(faults: Faults, src: &[u8]) -> Option<Self> {
        let dir = super::place();
        let at = dir.path().join("fuse");
        fs::create_dir(&at).expect("room");
        let mut state = State::default();
        let src = File {
            data: src.into(),
            mode: 0o644,
        };
        state.add("src", src);
        let fuse = Fuse {
            faults,
            state: Mutex::new(state),
        };
        let session = Session::new(fuse, &at, &Config::default()).and_then(Session::spawn);
        match session {
            Ok(session) => Some(Self {
                session: Some(session),
                dir,
            }),
            Err(error) => {
                super::skipped(&format!("FUSE cannot be mounted: {error}"));
                None
            }
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("fuse")
    }

    /// Returns a directory beside the mount.
    pub(crate) fn beside(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let unmounted = unmount(&self.path());
            // Without an unmount, waiting for the end of the session would never end.
            if unmounted {
                let _ = session.join();
            }
        }
    }
}

fn unmount(at: &Path) -> bool {
    std::process::Command::new("umount")
        .arg("-l")
        .arg(at)
        .status()
        .is_ok_and(|status| status.success())
}

impl State {
    fn add(&mut self, name: &str, file: File) -> u64 {
        self.made += 1;
        let inode = self.made + 1;
        self.names.insert(name.into(), inode);
        self.files.insert(inode, file);
        inode
    }
}

impl Fuse {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attr(&self, state: &State, inode: u64) -> Option<FileAttr> {
        let (kind, size, mode) = match state.files.get(&inode) {
            None if inode == 1 => (FileType::Directory, 0, 0o777),
            file => {
                let file = file?;
                let size = self.faults.size.unwrap_or(file.data.len() as u64);
                (FileType::RegularFile, size, file.mode)
            }
        };
        Some(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: mode as u16,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        })
    }

    fn flags(&self) -> FopenFlags {
        match self.faults.size {
            Some(_) => FopenFlags::FOPEN_DIRECT_IO,
            None => FopenFlags::empty(),
        }
    }
}

const TTL: Duration = Duration::ZERO;

impl Filesystem for Fuse {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.state();
        let inode = state.names.get(&*name.to_string_lossy());
        match inode.and_then(|inode| self.attr(&state, *inode)) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(&self.state(), inode.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        if let (Some(errno), true) = (self.faults.setattr, mode.is_some() || size.is_some()) {
            return reply.error(errno);
        }
        if let Some(file) = state.files.get_mut(&inode.0) {
            file.mode = mode.unwrap_or(file.mode) & 0o7777;
            if let Some(size) = size {
                file.data.resize(size as usize, 0);
            }
        }
        match self.attr(&state, inode.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), self.flags());
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.state();
        let file = File {
            data: Vec::new(),
            mode: mode & 0o7777,
        };
        let inode = state.add(&name.to_string_lossy(), file);
        match self.attr(&state, inode) {
            Some(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), self.flags()),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.state();
        let Some(file) = state.files.get(&inode.0) else {
            return reply.error(Errno::ENOENT);
        };
        let end = offset + u64::from(size);
        if self.faults.bad_from.is_some_and(|bad| end > bad) {
            return reply.error(Errno::EIO);
        }
        let len = file.data.len();
        reply.data(&file.data[len.min(offset as usize)..len.min(end as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        let Some(file) = state.files.get_mut(&inode.0) else {
            return reply.error(Errno::ENOENT);
        };
        let end = offset as usize + data.len();
        if file.data.len() < end {
            file.data.resize(end, 0);
        }
        file.data[offset as usize..end].copy_from_slice(data);
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer(self.faults.flush, reply);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.faults.fsyncdir, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        for (at, (name, inode)) in (1..).zip(&self.state().names).skip(offset as usize) {
            if reply.add(INodeNo(*inode), at, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.state().names.remove(&*name.to_string_lossy()) {
            Some(_) => reply.ok(),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        to: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        // As file systems without such renames answer.
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        match state.names.remove(&*name.to_string_lossy()) {
            Some(inode) => {
                state.names.insert(to.to_string_lossy().into_owned(), inode);
                reply.ok();
            }
            None => reply.error(Errno::ENOENT),
        }
    }
}

fn answer(errno: Option<Errno>, reply: ReplyEmpty) {
    match errno {
        Some(errno) => reply.error(errno),
        None => reply.ok(),
    }
}
