//! The policy of a server: users that may connect, the files of each, and the limits.

pub(crate) mod spec;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::OFlags;
use serde::Deserialize;
use vyre_io::Rights;
use vyre_io_client::protocol::{self, FileEntry, Limits};

use super::args::ServeArgs;
use super::error::ServeError;
use super::limits::{DEFAULT, LimitArgs};
use crate::failure::Failure;
use spec::FileSpec;

/// A user or a group, by name or by number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a name or a number")]
pub(crate) enum Name {
    Number(u32),
    Text(String),
}

impl std::str::FromStr for Name {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().map(Self::Number);
        Ok(number.unwrap_or_else(|_| Self::Text(text.into())))
    }
}

impl Name {
    fn user(&self) -> Result<Who, ServeError> {
        let name = match self {
            Self::Number(number) => return Ok(Who::User(*number)),
            Self::Text(name) => name,
        };
        match User::from_name(name) {
            Ok(Some(user)) => Ok(Who::User(user.uid.as_raw())),
            Ok(None) => Err(ServeError::NoUser(name.clone())),
            Err(errno) => Err(ServeError::Names(errno.into())),
        }
    }

    fn group(&self) -> Result<Who, ServeError> {
        let name = match self {
            Self::Number(number) => return Ok(Who::Group(*number)),
            Self::Text(name) => name,
        };
        match Group::from_name(name) {
            Ok(Some(group)) => Ok(Who::Group(group.gid.as_raw())),
            Ok(None) => Err(ServeError::NoGroup(name.clone())),
            Err(errno) => Err(ServeError::Names(errno.into())),
        }
    }
}

/// The policy file.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct PolicyFile {
    /// Number of peers at a time.
    peers: Option<NonZeroU32>,
    /// Number of peers of one user at a time.
    peers_per_user: Option<NonZeroU32>,
    /// Leave for peers of the user that the server runs as.
    same_user: Option<bool>,
    /// Limits of every peer.
    limits: LimitArgs,
    /// Others who may connect. The first that fits a peer counts.
    allow: Vec<AllowSpec>,
    file: Vec<FileSpec>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct AllowSpec {
    user: Option<Name>,
    group: Option<Name>,
    /// Limits in place of those of every peer.
    #[serde(default)]
    limits: LimitArgs,
}

impl AllowSpec {
    fn who(&self) -> Result<Who, ServeError> {
        match (&self.user, &self.group) {
            (Some(user), None) => user.user(),
            (None, Some(group)) => group.group(),
            _ => Err(ServeError::Allow),
        }
    }
}

impl PolicyFile {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))?;
        toml::from_str(&text).map_err(|error| {
            let path = PathBuf::from(path);
            ServeError::Policy { path, error }.into()
        })
    }
}

/// A user or a group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    User(u32),
    Group(u32),
}

/// The user of a peer, as the kernel states it for its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerUser {
    pub(crate) uid: u32,
    /// Its groups, if the policy names any group.
    pub(crate) groups: Vec<u32>,
}

impl PeerUser {
    /// Looks the groups of a user up, which may take time where names come from the network.
    pub(crate) fn look_up(uid: u32, gid: u32) -> Self {
        let mut groups = vec![gid];
        if let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid))
            && let Ok(name) = std::ffi::CString::new(user.name)
            && let Ok(more) = nix::unistd::getgrouplist(&name, Gid::from_raw(gid))
        {
            groups.extend(more.into_iter().map(Gid::as_raw));
        }
        Self { uid, groups }
    }

    fn is(&self, who: Who) -> bool {
        match who {
            Who::User(uid) => self.uid == uid,
            Who::Group(gid) => self.groups.contains(&gid),
        }
    }
}

/// A file that is served.
#[derive(Debug)]
pub(crate) struct ServedFile {
    pub(crate) name: String,
    pub(crate) file: File,
    pub(crate) rights: Rights,
    pub(crate) range: Range<u64>,
    /// Those who may open it. Empty: all peers.
    who: Vec<Who>,
}

impl ServedFile {
    fn open(spec: FileSpec) -> Result<Self, Failure> {
        if let Some(fault) = spec.fault() {
            return Err(Failure::Usage(fault));
        }
        let mut who = Vec::new();
        for name in &spec.users {
            who.push(name.user()?);
        }
        for name in &spec.groups {
            who.push(name.group()?);
        }
        let rights = spec.rights.0;
        let access = match (
            rights.contains(Rights::READ),
            rights.contains(Rights::WRITE),
        ) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        // Without O_NONBLOCK, a FIFO would keep the server waiting for its other end.
        let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let path = &spec.path;
        let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
            .map_err(|errno| Failure::file("open", path, errno))?;
        rustix::fs::fcntl_setfl(&fd, access).map_err(|e| Failure::file("open", path, e))?;
        let file = File::from(fd);
        let kind = file
            .metadata()
            .map_err(|error| Failure::file("examine", path, error))?
            .file_type();
        let is_block = std::os::unix::fs::FileTypeExt::is_block_device(&kind);
        if !kind.is_file() && !is_block {
            return Err(Failure::unfit(path, kind));
        }
        Ok(Self {
            name: spec.name,
            file,
            rights,
            range: spec.range.0,
            who,
        })
    }

    /// Returns what a peer is told of the file.
    pub(crate) fn entry(&self) -> FileEntry {
        FileEntry {
            start: self.range.start,
            end: self.range.end,
            rights: self.rights.bits().into(),
            alignment: 1,
            name: protocol::Name::shortened(&self.name),
        }
    }

    /// Returns the number of bytes of the range that the file holds now.
    pub(crate) fn length(&self) -> io::Result<u64> {
        // Seeking measures block devices too; requests have offsets of their own.
        let end = (&self.file).seek(SeekFrom::End(0))?;
        Ok(end.min(self.range.end).saturating_sub(self.range.start))
    }
}

/// A user or a group that may connect.
#[derive(Debug)]
struct Allowed {
    who: Who,
    limits: Limits,
}

/// Policy of a server: users that may connect, the files of each, and the limits.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) peers: usize,
    pub(crate) peers_per_user: usize,
    /// The user of the server, if peers of the same user may connect.
    own: Option<u32>,
    limits: Limits,
    allowed: Vec<Allowed>,
    files: Vec<Arc<ServedFile>>,
}

/// Number of peers at a time for which none is given.
const PEERS: usize = 64;

/// The limits of a peer that may only ask for the status.
const NOTHING: Limits = Limits {
    queues: 0,
    slots: 0,
    buffers: 0,
    open_files: 0,
    buffer_bytes: 0,
    ..DEFAULT
};

/// Returns whether a user may see the counters of all peers: root may, and the user of the server.
pub(crate) fn may_see_status(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

impl Policy {
    /// Reads the policy file, looks names up and opens the files.
    pub(crate) fn new(args: &ServeArgs) -> Result<Self, Failure> {
        let given = match &args.policy {
            Some(path) => PolicyFile::read(path)?,
            None => PolicyFile::default(),
        };
        let limits = args.limits.over(given.limits.over(DEFAULT));
        let mut allowed = Vec::new();
        for allow in &given.allow {
            let limits = allow.limits.over(limits);
            let who = allow.who()?;
            allowed.push(Allowed { who, limits });
        }
        for who in args.allow_user.iter().map(Name::user) {
            allowed.push(Allowed { who: who?, limits });
        }
        for who in args.allow_group.iter().map(Name::group) {
            allowed.push(Allowed { who: who?, limits });
        }
        let specs = given.file.into_iter().chain(args.file.iter().cloned());
        let opened = specs.map(|spec| ServedFile::open(spec).map(Arc::new));
        let files: Vec<_> = opened.collect::<Result<_, _>>()?;
        for (index, file) in files.iter().enumerate() {
            if files[..index].iter().any(|other| other.name == file.name) {
                return Err(ServeError::TwoFiles(file.name.clone()).into());
            }
        }
        if files.is_empty() {
            return Err(ServeError::NoFile.into());
        }
        let same = given.same_user.unwrap_or(true);
        let number = |given: Option<NonZeroU32>| given.map(|number| number.get() as usize);
        let peers = number(args.peers.or(given.peers)).unwrap_or(PEERS);
        let of_one = number(args.peers_per_user.or(given.peers_per_user));
        Ok(Self {
            peers,
            peers_per_user: of_one.unwrap_or(peers),
            own: same.then(|| rustix::process::geteuid().as_raw()),
            limits,
            allowed,
            files,
        })
    }

    /// Returns whether a decision depends on the groups of a peer.
    pub(crate) fn asks_for_groups(&self) -> bool {
        let files = self.files.iter().flat_map(|file| &file.who);
        let allowed = self.allowed.iter().map(|allowed| &allowed.who);
        files.chain(allowed).any(|who| matches!(who, Who::Group(_)))
    }

    /// Returns the limits of a peer, or `None` if it may not connect.
    pub(crate) fn admit(&self, user: &PeerUser) -> Option<Limits> {
        let listed = self.allowed.iter().find(|allowed| user.is(allowed.who));
        match listed {
            Some(allowed) => Some(allowed.limits),
            None if self.own == Some(user.uid) => Some(self.limits),
            None => may_see_status(user.uid).then_some(NOTHING),
        }
    }

    /// Returns the files that a peer may open.
    pub(crate) fn files_of<'a>(
        &'a self,
        user: &'a PeerUser,
    ) -> impl Iterator<Item = &'a Arc<ServedFile>> {
        let may = |file: &&Arc<ServedFile>| {
            file.who.is_empty() || file.who.iter().any(|&who| user.is(who))
        };
        self.files.iter().filter(may)
    }

    /// Returns the limits of all who may connect.
    pub(crate) fn all_limits(&self) -> impl Iterator<Item = Limits> {
        let listed = self.allowed.iter().map(|allowed| allowed.limits);
        listed.chain(self.own.map(|_| self.limits))
    }
}
