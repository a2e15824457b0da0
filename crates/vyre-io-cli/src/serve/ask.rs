//! The client's side of a connection, for `--status`.

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recvmsg, send, socket_with, sockopt,
};
use vyre_io_client::protocol::{
    Conversation, Name, Page, PeerStatus, Reply, Request, Status, sizes,
};

use super::error::ServeError;
use crate::failure::Failure;

/// Longest time to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a server.
struct Asker {
    socket: OwnedFd,
    conversation: Conversation,
}

impl Asker {
    fn connect(path: &Path) -> Result<Self, Failure> {
        let address = SocketAddrUnix::new(path).map_err(|_| ServeError::LongPath)?;
        let failed = |errno| Failure::file("connect to", path, errno);
        let (unix, packets) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let socket = socket_with(unix, packets, SocketFlags::CLOEXEC, None).map_err(failed)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(failed)?;
        connect(&socket, &address).map_err(failed)?;
        let conversation = Conversation::new();
        Ok(Self {
            socket,
            conversation,
        })
    }

    fn ask(
        &mut self,
        packet: impl FnOnce(&mut Conversation) -> vyre_io_client::protocol::Packet,
    ) -> Result<Reply, ServeError> {
        let packet = packet(&mut self.conversation);
        // A server that refuses the connection has said why.
        let _ = send(&self.socket, packet.bytes(), SendFlags::NOSIGNAL);
        let mut buffer = [0; sizes::MESSAGE_BYTES as usize];
        let mut none = RecvAncillaryBuffer::default();
        let mut space = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(&self.socket, &mut space, &mut none, RecvFlags::CMSG_CLOEXEC)
            .map_err(|errno| match errno {
                rustix::io::Errno::AGAIN => ServeError::NoAnswer(io::ErrorKind::TimedOut.into()),
                errno => ServeError::NoAnswer(errno.into()),
            })?;
        if received.bytes == 0 {
            return Err(ServeError::NoAnswer(io::ErrorKind::UnexpectedEof.into()));
        }
        let answer = self.conversation.receive(&buffer[..received.bytes], 0);
        answer.map_err(|error| ServeError::Answer(Box::new(error)))
    }
}

/// Returns the status of all peers of a server, each with its counters. The first entry is the server's own.
pub(super) fn status(path: &Path) -> Result<Vec<PeerStatus>, Failure> {
    let mut asker = Asker::connect(path)?;
    asker.ask(|conversation| conversation.hello(Name::shortened("vyre-io serve --status")))?;
    let (mut peers, mut cursor) = (Vec::new(), 0);
    loop {
        let request = Request::Status(Status { cursor });
        let page: Page<PeerStatus> = match asker.ask(|it| it.ask(request))? {
            Reply::StatusIs(page) => page,
            _ => unreachable!("`receive` refuses any other answer"),
        };
        peers.extend_from_slice(page.entries());
        cursor = page.next();
        if cursor == 0 {
            return Ok(peers);
        }
    }
}
