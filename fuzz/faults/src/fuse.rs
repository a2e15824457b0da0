//! FUSE file system whose files misbehave by name; see [`Fuse`](crate::Fuse).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, Session, TimeOrNow, WriteFlags,
};

use crate::scene::{self, pattern};

/// Limit of background requests: the kernel's default.
const BACKGROUND: u16 = 12;
/// Lifetime of cached attributes. They change by requests of this kernel alone.
const TTL: Duration = Duration::from_secs(3600);
/// Name of the file that reports how many requests hang. Writing to it releases them.
const CONTROL: &str = ".control";
const CONTROL_INODE: u64 = 2;

/// Faults of all files of a mount, beside those that their names select.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Words that hold for every file as if its name had them; see [`Fuse`](crate::Fuse).
    pub words: &'static [&'static str],
    /// Offset from which a file fails that fails in its middle.
    pub middle: u64,
    /// Size that files state. They are then read past the page cache.
    pub size: Option<u64>,
    /// Set if the kernel may send the parts of direct I/O at once.
    pub asynchronous: bool,
    /// Set if the kernel keeps written bytes, and sends them later.
    pub writeback: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            words: &[],
            middle: 512 << 10,
            size: None,
            asynchronous: false,
            writeback: false,
        }
    }
}

/// Mounts the file system with these files. This process serves it.
///
/// # Errors
/// The mount is not permitted, or `at` is no directory.
pub fn serve(at: &Path, faults: Faults, files: &[(&str, &[u8])]) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("faults".into())];
    let mut state = State {
        faults,
        names: BTreeMap::new(),
        nodes: HashMap::new(),
        failed: HashSet::new(),
        held: Vec::new(),
        released: false,
    };
    for (name, data) in files {
        state.add(name, data.to_vec(), 0o644);
    }
    let faulty = FaultyFs(Mutex::new(state));
    Session::new(faulty, at, &config)?.spawn()
}

struct Node {
    /// Words of the name with which it was created, and of the mount.
    words: HashSet<String>,
    data: Vec<u8>,
    mode: u32,
}

impl Node {
    fn is(&self, word: &str) -> bool {
        self.words.contains(word)
    }
}

/// Request without a reply.
enum Held {
    Read(u64, u64, u32, ReplyData),
    Statfs(ReplyStatfs),
    Write(u64, u64, Vec<u8>, ReplyWrite),
    Fsync(u64, ReplyEmpty),
}

struct State {
    faults: Faults,
    names: BTreeMap<String, u64>,
    /// Files by inode, those without a name included.
    nodes: HashMap<u64, Node>,
    /// Inodes of the files that have failed once.
    failed: HashSet<u64>,
    held: Vec<Held>,
    released: bool,
}

impl State {
    fn inode(&self, name: &OsStr) -> Option<u64> {
        if name == CONTROL {
            return Some(CONTROL_INODE);
        }
        self.names.get(&*name.to_string_lossy()).copied()
    }

    fn words(&self, name: &str) -> HashSet<String> {
        let words = name.split('.').chain(self.faults.words.iter().copied());
        words.map(str::to_owned).collect()
    }

    fn add(&mut self, name: &str, data: Vec<u8>, mode: u32) -> u64 {
        let inode = CONTROL_INODE + 1 + self.nodes.len() as u64;
        let words = self.words(name);
        self.names.insert(name.to_owned(), inode);
        self.nodes.insert(inode, Node { words, data, mode });
        inode
    }

    fn attr(&self, inode: u64) -> Option<FileAttr> {
        let (size, kind, mode) = match inode {
            1 => (0, FileType::Directory, 0o777),
            CONTROL_INODE => (0, FileType::RegularFile, 0o644),
            _ => {
                let node = self.nodes.get(&inode)?;
                let size = self.faults.size.unwrap_or(node.data.len() as u64);
                (size, FileType::RegularFile, node.mode)
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

    fn is(&self, inode: u64, word: &str) -> bool {
        self.nodes.get(&inode).is_some_and(|node| node.is(word))
    }

    fn hangs(&self, inode: u64, word: &str) -> bool {
        !self.released && self.is(inode, word)
    }

    fn flags(&self, inode: u64) -> FopenFlags {
        if inode == CONTROL_INODE || self.faults.size.is_some() || self.is(inode, "dio") {
            FopenFlags::FOPEN_DIRECT_IO
        } else {
            FopenFlags::empty()
        }
    }

    fn read(&self, inode: u64, offset: u64, size: u32, reply: ReplyData) {
        let Some(node) = self.nodes.get(&inode) else {
            return reply.error(Errno::ENOENT);
        };
        if node.is("eio-read") && offset + u64::from(size) > self.faults.middle {
            return reply.error(Errno::EIO);
        }
        let start = node.data.len().min(offset as usize);
        let asked = node.data.len().min(start + size as usize) - start;
        reply.data(&node.data[start..start + share(node, asked, ["short-read", "half-read"])]);
    }

    fn write(&mut self, inode: u64, offset: u64, data: &[u8], reply: ReplyWrite) {
        let Some(node) = self.nodes.get_mut(&inode) else {
            return reply.error(Errno::ENOENT);
        };
        if offset + data.len() as u64 > self.faults.middle {
            if node.is("eio-write") {
                return reply.error(Errno::EIO);
            }
            if node.is("full") {
                return reply.error(Errno::ENOSPC);
            }
        }
        let count = share(node, data.len(), ["short-write", "half-write"]);
        let (start, end) = (offset as usize, offset as usize + count);
        if node.data.len() < end {
            node.data.resize(end, 0);
        }
        node.data[start..end].copy_from_slice(&data[..count]);
        reply.written(count as u32);
    }

    fn fsync(&mut self, inode: u64, reply: ReplyEmpty) {
        let once = self.is(inode, "fail-fsync-once") && self.failed.insert(inode);
        if once || self.is(inode, "fail-fsync") {
            reply.error(Errno::EIO);
        } else {
            reply.ok();
        }
    }

    fn release(&mut self) {
        self.released = true;
        for held in std::mem::take(&mut self.held) {
            match held {
                Held::Read(inode, offset, size, reply) => self.read(inode, offset, size, reply),
                Held::Write(inode, offset, data, reply) => self.write(inode, offset, &data, reply),
                Held::Fsync(inode, reply) => self.fsync(inode, reply),
                Held::Statfs(reply) => statfs(reply),
            }
        }
    }
}

fn statfs(reply: ReplyStatfs) {
    reply.statfs(0, 0, 0, 0, 0, 512, 255, 0);
}

/// Returns the number of bytes that a file with this fault transfers of those that were asked for.
fn share(node: &Node, asked: usize, [short, half]: [&str; 2]) -> usize {
    if node.is(short) {
        asked.min(1000)
    } else if node.is(half) && asked > 512 {
        (asked / 2).next_multiple_of(512)
    } else {
        asked
    }
}

struct FaultyFs(Mutex<State>);

impl FaultyFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filesystem for FaultyFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_background(BACKGROUND);
        if self.state().faults.asynchronous {
            // As libfuse asks for it; the kernel may not have it.
            let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        }
        if self.state().faults.writeback {
            let _ = config.add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.state();
        match state.inode(name).and_then(|inode| state.attr(inode)) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attr(inode.0) {
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
        let refused = size.is_some() && state.is(inode.0, "no-truncate")
            || mode.is_some() && state.is(inode.0, "no-chmod");
        if refused {
            return reply.error(Errno::ENOSYS);
        }
        if let Some(node) = state.nodes.get_mut(&inode.0) {
            node.mode = mode.unwrap_or(node.mode) & 0o7777;
            let len = size.map_or(node.data.len(), |size| size as usize);
            node.data.resize(len, 0);
        }
        match state.attr(inode.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), self.state().flags(inode.0));
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
        let name = name.to_string_lossy();
        let data = match state.words(&name).contains("empty") {
            true => Vec::new(),
            false => pattern(0, scene::Fuse::LEN),
        };
        let inode = state.add(&name, data, mode & 0o7777);
        let flags = state.flags(inode);
        match state.attr(inode) {
            Some(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), flags),
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
        let mut state = self.state();
        if inode.0 == CONTROL_INODE {
            let text = state.held.len().to_string();
            reply.data(text.as_bytes().get(offset as usize..).unwrap_or_default());
        } else if state.hangs(inode.0, "hang-read") {
            state.held.push(Held::Read(inode.0, offset, size, reply));
        } else {
            state.read(inode.0, offset, size, reply);
        }
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
        if inode.0 == CONTROL_INODE {
            reply.written(data.len() as u32);
            if data == b"hold" {
                state.released = false;
            } else {
                state.release();
            }
        } else if state.hangs(inode.0, "hang-write") {
            let held = Held::Write(inode.0, offset, data.to_vec(), reply);
            state.held.push(held);
        } else {
            state.write(inode.0, offset, data, reply);
        }
    }

    fn statfs(&self, _: &Request, inode: INodeNo, reply: ReplyStatfs) {
        let mut state = self.state();
        if state.hangs(inode.0, "hang-statfs") {
            state.held.push(Held::Statfs(reply));
        } else {
            statfs(reply);
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.state();
        if state.hangs(inode.0, "hang-fsync") {
            state.held.push(Held::Fsync(inode.0, reply));
        } else {
            state.fsync(inode.0, reply);
        }
    }

    fn flush(&self, _: &Request, inode: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let state = self.state();
        if state.is(inode.0, "full-flush") {
            reply.error(Errno::ENOSPC);
        } else if state.is(inode.0, "fail-flush") {
            reply.error(Errno::EIO);
        } else {
            reply.ok();
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.state().faults.words.contains(&"no-opendir") {
            reply.error(Errno::EACCES);
        } else {
            reply.opened(FileHandle(0), FopenFlags::empty());
        }
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if self.state().faults.words.contains(&"no-fsyncdir") {
            reply.error(Errno::EINVAL);
        } else {
            reply.ok();
        }
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
