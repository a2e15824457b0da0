//! Packets of one connection.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, recv, recvmsg, sendmsg, shutdown, sockopt,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use vyre_io_client::protocol::{Packet, sizes};

/// Bytes of answers that may wait for a peer to take them. The kernel doubles the number.
const OUTPUT: usize = 16 << 10;

/// Time that a peer has to take an answer when others wait before it.
const TAKE_TIME: Duration = Duration::from_secs(5);

/// Most packets that are thrown away at the end of a connection.
const REST: usize = 4096;

/// A packet of a peer.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) len: usize,
    /// Set if it was cut short, or came with descriptors.
    pub(crate) is_strange: bool,
}

pub(crate) type PacketBuffer = [u8; sizes::MESSAGE_BYTES as usize];

/// A non-blocking Unix socket of any type, and when it is ready. Of the type that gives it its name in the runtime,
/// it uses the readiness alone.
#[derive(Debug)]
pub(crate) struct ReadySocket(UnixStream);

impl ReadySocket {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        UnixStream::from_std(fd.into()).map(Self)
    }

    /// Calls a function whenever the socket is ready, until it does something else than to block.
    pub(crate) async fn when<R>(
        &self,
        interest: Interest,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<R>,
    ) -> io::Result<R> {
        let call = || Ok(retry_on_intr(|| call(self.0.as_fd()))?);
        self.0.async_io(interest, call).await
    }
}

/// The connection of one peer.
#[derive(Debug)]
pub(crate) struct Connection(ReadySocket);

impl Connection {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        sockopt::set_socket_send_buffer_size(&fd, OUTPUT)?;
        ReadySocket::new(fd).map(Self)
    }

    /// Receives the next packet. Returns `None` if the peer has hung up; an empty packet says the same.
    pub(crate) async fn receive(&self, buffer: &mut PacketBuffer) -> io::Result<Option<Received>> {
        let receive = |fd: BorrowedFd<'_>| {
            // No room for descriptors: the kernel drops those that come, and says so.
            let mut none = RecvAncillaryBuffer::default();
            let mut space = [IoSliceMut::new(&mut buffer[..])];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            recvmsg(fd, &mut space, &mut none, flags)
        };
        let received = self.0.when(Interest::READABLE, receive).await?;
        let strange = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        Ok((received.bytes > 0).then(|| Received {
            len: received.bytes,
            is_strange: received.flags.intersects(strange),
        }))
    }

    /// Sends a packet, with a descriptor if there is one.
    ///
    /// # Errors
    /// `TimedOut` if the peer takes nothing for a time.
    pub(crate) async fn send(&self, packet: &Packet, fd: Option<OwnedFd>) -> io::Result<()> {
        let send = |socket: BorrowedFd<'_>| send(socket, packet, fd.as_ref());
        let sent = self.0.when(Interest::WRITABLE, send);
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(TAKE_TIME, sent).await.map_err(late)?
    }

    /// Sends a last packet if the peer takes it at once, and closes the connection.
    pub(crate) fn finish(self, last: Option<&Packet>) {
        let fd = self.0.0.as_fd();
        if let Some(packet) = last {
            let _ = send(fd, packet, None);
        }
        let _ = shutdown(fd, Shutdown::Both);
        // What the peer has sent and nobody read would make it lose the last packet. It sends no more.
        let mut rest = [0; 1];
        for _ in 0..REST {
            match recv(fd, &mut rest, RecvFlags::DONTWAIT) {
                Ok((_, 1..)) => {}
                _ => break,
            }
        }
    }
}

fn send(socket: BorrowedFd<'_>, packet: &Packet, fd: Option<&OwnedFd>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(AsFd::as_fd);
    if let Some(fd) = &fds {
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
    }
    let bytes = [IoSlice::new(packet.bytes())];
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &bytes, &mut control, flags)?;
    Ok(())
}
