//! The socket: packets with descriptors, and the end of the other side.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
    sendmsg, socket_with,
};

use crate::error::ClientError;
use crate::protocol::sizes::MESSAGE_BYTES;
use crate::protocol::{DecodeError, ReplyError};

/// Descriptors for which there is room: more than any message has, so that too many are noticed.
const ROOM: usize = 4;

/// A packet that was received.
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// A connected socket of the type SOCK_SEQPACKET.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn connect(path: &Path, limit: Duration) -> Result<Self, ClientError> {
        let error = |errno| ClientError::Connect {
            path: path.to_owned(),
            errno,
        };
        let address = SocketAddrUnix::new(path).map_err(error)?;
        let (unix, packets) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let fd = socket_with(unix, packets, SocketFlags::CLOEXEC, None).map_err(error)?;
        let socket = Self::from_fd(fd, limit)?;
        connect(&socket.0, &address).map_err(error)?;
        Ok(socket)
    }

    pub(crate) fn from_fd(fd: OwnedFd, limit: Duration) -> Result<Self, ClientError> {
        let socket = Self(fd);
        socket.set_limit(limit)?;
        Ok(socket)
    }

    /// Sets the time limit of each send and each receive.
    pub(crate) fn set_limit(&self, limit: Duration) -> Result<(), ClientError> {
        // Zero would be no limit.
        let limit = limit.max(Duration::from_micros(1));
        for direction in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&self.0, direction, Some(limit)).map_err(ClientError::Socket)?;
        }
        Ok(())
    }

    pub(crate) fn send(&self, packet: &[u8], limit: Duration) -> Result<(), ClientError> {
        let mut control = SendAncillaryBuffer::new(&mut []);
        loop {
            let slices = [IoSlice::new(packet)];
            match sendmsg(&self.0, &slices, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failure(errno, limit)),
            }
        }
    }

    pub(crate) fn receive(&self, limit: Duration) -> Result<Received, ClientError> {
        let mut bytes = vec![0; MESSAGE_BYTES as usize];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failure(errno, limit)),
            }
        };
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = rights.flatten().collect();
        if received.bytes == 0 {
            return Err(ClientError::HostGone);
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(ReplyError::from(DecodeError::TooLong).into());
        }
        bytes.truncate(received.bytes);
        Ok(Received { bytes, descriptors })
    }

    /// Returns whether the other side has closed its end. Packets that it sent before may still be there.
    pub(crate) fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(gone)
    }
}

fn failure(errno: Errno, limit: Duration) -> ClientError {
    match errno {
        Errno::AGAIN => ClientError::TimedOut { limit },
        Errno::PIPE | Errno::CONNRESET => ClientError::HostGone,
        other => ClientError::Socket(other),
    }
}
