//! The socket at which peers connect: made here, or handed over by a service manager.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::error::ServeError;
use crate::failure::Failure;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Longest time that another server may take to make its socket in the same directory.
const OTHERS: Duration = Duration::from_secs(5);

/// A listening socket. Dropping it removes its name, if it has one of its own.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    name: Option<SocketName>,
}

/// The name of a socket, which is removed on drop unless another file has taken it.
#[derive(Debug)]
pub(crate) struct SocketName {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketName {
    fn drop(&mut self) {
        if let Ok(found) = fs::symlink_metadata(&self.path)
            && (found.dev(), found.ino()) == (self.device, self.inode)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Takes the socket that a service manager handed over, or makes one.
    pub(crate) fn new(path: Option<&Path>, mode: u32) -> Result<Self, Failure> {
        if let Some(fd) = handed_over()? {
            return Ok(Self { fd, name: None });
        }
        let path = path.ok_or(ServeError::NoSocket)?;
        let address = address(path)?;
        // Of two servers that start at the same time, the later one finds that the other listens.
        let _turn = turn(path)?;
        remove_stale(path, &address)?;
        let failed = |what| move |errno: Errno| Failure::file(what, path, errno);
        let fd = seqpacket()?;
        rustix::net::bind(&fd, &address).map_err(failed("make the socket"))?;
        let made = || -> io::Result<SocketName> {
            // Nobody can connect yet.
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            let found = fs::symlink_metadata(path)?;
            Ok(SocketName {
                path: path.into(),
                device: found.dev(),
                inode: found.ino(),
            })
        };
        let name = made().map_err(|error| {
            let _ = fs::remove_file(path);
            Failure::file("set the mode of", path, error)
        })?;
        rustix::net::listen(&fd, BACKLOG).map_err(failed("listen at"))?;
        Ok(Self {
            fd,
            name: Some(name),
        })
    }

    /// Returns the socket and its name, which is removed on drop.
    pub(crate) fn into_parts(self) -> (OwnedFd, Option<SocketName>) {
        (self.fd, self.name)
    }
}

fn address(path: &Path) -> Result<SocketAddrUnix, ServeError> {
    SocketAddrUnix::new(path).map_err(|_| ServeError::LongPath)
}

fn seqpacket() -> Result<OwnedFd, ServeError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(ServeError::system("no socket"))
}

/// Returns the socket of the service manager, if it handed one over to this process.
fn handed_over() -> Result<Option<OwnedFd>, ServeError> {
    // The manager always says for whom the descriptors are; without that, they would be anybody's.
    if std::env::var_os("LISTEN_PID").is_none() {
        return Ok(None);
    }
    let mut fds = listenfd::ListenFd::from_env();
    let (unix, packets) = (libc::AF_UNIX, libc::SOCK_SEQPACKET);
    let taken = match fds.len() {
        0 => return Ok(None),
        1 => fds.take_custom::<OwnedFd>(0, unix, packets, "unix sequential-packet socket"),
        _ => Err(io::Error::other("there are several")),
    };
    let fd = taken.map_err(ServeError::Activation)?;
    if let Some(fd) = &fd {
        let listens = rustix::net::sockopt::socket_acceptconn(fd).unwrap_or(false);
        if !listens {
            return Err(ServeError::Activation(io::Error::other(
                "it does not listen",
            )));
        }
        let flags = rustix::fs::fcntl_getfl(fd).map_err(|e| ServeError::Activation(e.into()))?;
        rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)
            .map_err(|errno| ServeError::Activation(errno.into()))?;
    }
    Ok(fd)
}

/// Locks the directory of a path, until the returned file is dropped.
fn turn(path: &Path) -> Result<File, Failure> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let opened = File::open(directory);
    let file = opened.map_err(|error| Failure::file("open the directory", directory, error))?;
    let until = Instant::now() + OTHERS;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            // Somebody who may read the directory holds the lock for ever: no reason not to start. A file system
            // without locks is none either.
            _ => return Ok(file),
        }
    }
}

/// Removes the socket of a server that is gone.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), Failure> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::file("examine", path, error)),
    };
    if !found.file_type().is_socket() {
        return Err(ServeError::NotASocket(path.into()).into());
    }
    let ours = seqpacket()?;
    match rustix::net::connect(ours.as_fd(), address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => {}
        // EPROTOTYPE: a server of another kind listens. EAGAIN: its backlog is full.
        Ok(()) | Err(Errno::PROTOTYPE | Errno::AGAIN) => {
            return Err(ServeError::InUse(path.into()).into());
        }
        Err(errno) => return Err(Failure::file("connect to", path, errno)),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::file("remove the old socket", path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(path: &Path) -> Result<Listener, Failure> {
        Listener::new(Some(path), 0o640)
    }

    #[test]
    fn a_socket_is_replaced_only_if_nobody_listens() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let first = listen(&path).expect("a socket");
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let refused = listen(&path).expect_err("somebody listens").to_string();
        assert!(refused.contains("another server listens"), "{refused}");
        assert!(path.exists());
        // As after a kill: the name stays, and nobody listens.
        let Listener { fd, name } = first;
        drop(fd);
        std::mem::forget(name);
        let second = listen(&path).expect("a stale socket is replaced");
        drop(second);
        assert!(!path.exists(), "a server removes its own socket");
    }

    #[test]
    fn a_name_that_another_has_taken_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let listener = listen(&path).expect("a socket");
        fs::remove_file(&path).expect("ours");
        fs::write(&path, "of somebody else").expect("room");
        drop(listener);
        assert!(path.exists());
        let refused = listen(&path).expect_err("no socket").to_string();
        assert!(refused.contains("not a socket"), "{refused}");
        assert_eq!(fs::read(&path).expect("still there"), b"of somebody else");
    }

    #[test]
    fn a_server_of_another_kind_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let _other = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let refused = listen(&path).expect_err("somebody listens").to_string();
        assert!(refused.contains("another server listens"), "{refused}");
    }

    #[test]
    fn a_path_that_fits_no_address_is_refused() {
        let path = PathBuf::from(format!("/{}", "x".repeat(200)));
        let refused = listen(&path).expect_err("too long").to_string();
        assert!(refused.contains("107 bytes"), "{refused}");
    }
}
