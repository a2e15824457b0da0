//! The server: accepts peers, and ends.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{SocketFlags, accept_with};
use sd_notify::NotifyState;
use tokio::io::Interest;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use vyre_io::LoopGroup;
use vyre_io_client::protocol::{Code, Limits, Session};

use super::error::ServeError;
use super::packets::{Connection, ReadySocket};
use super::peer;
use super::policy::Policy;
use super::record::Records;
use super::socket::Listener;
use crate::failure::Failure;

/// Peers whose queues, buffers and files are made at the same time.
const CHANGES: usize = 2;

/// Pause after a connection that could not be accepted for want of descriptors or memory.
const SHORT_OF: Duration = Duration::from_millis(100);

/// Period of the check whether all loops run.
const CHECK: Duration = Duration::from_secs(1);

/// Time beyond the draining in which peers' changes end.
const CHANGES_END: Duration = Duration::from_secs(30);

/// The way of the server to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Peers leave their queues to the loops, which end.
    Stopping,
    /// The loops have ended.
    Ended,
}

/// State that all peers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) policy: Policy,
    pub(crate) records: Records,
    /// Turns of those that take time for a peer's own sake.
    pub(crate) changes: Semaphore,
    loops: Mutex<Option<Arc<LoopGroup>>>,
}

impl Shared {
    /// Returns the loops, unless they are about to end.
    pub(crate) fn loops(&self) -> Option<Arc<LoopGroup>> {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.clone()
    }

    fn take_loops(&self) -> Option<Arc<LoopGroup>> {
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.take()
    }
}

pub(crate) struct Server {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    places: Arc<Semaphore>,
    peers: JoinSet<()>,
}

impl Server {
    pub(crate) fn new(policy: Policy, loops: LoopGroup) -> Self {
        let places = Arc::new(Semaphore::new(policy.peers));
        let shared = Shared {
            policy,
            records: Records::new(),
            changes: Semaphore::new(CHANGES),
            loops: Mutex::new(Some(Arc::new(loops))),
        };
        Self {
            shared: Arc::new(shared),
            phase: watch::Sender::new(Phase::Serving),
            places,
            peers: JoinSet::new(),
        }
    }

    /// Serves until a signal, then ends.
    pub(crate) async fn run(mut self, listener: Listener, drain: Duration) -> Result<(), Failure> {
        let failed = ServeError::system("no signal handler");
        let mut signals = Signals::new().map_err(failed)?;
        let (fd, name) = listener.into_parts();
        let listening = ReadySocket::new(fd).map_err(ServeError::system("no epoll"))?;
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let served = self.serve(&listening, &mut signals).await;
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        // Nobody can connect from here on; the name is gone, so that another server can start.
        drop((listening, name));
        let ended = self.end(drain).await;
        served.and(ended)
    }

    async fn serve(
        &mut self,
        listening: &ReadySocket,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let mut check = tokio::time::interval(CHECK);
        loop {
            tokio::select! {
                accepted = accept(listening) => match accepted {
                    Ok(connection) => self.begin(connection),
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted now");
                        tokio::time::sleep(SHORT_OF).await;
                    }
                },
                name = signals.next() => {
                    tracing::info!("{name}: ending");
                    return Ok(());
                }
                _ = check.tick() => self.check()?,
                Some(ended) = self.peers.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the conversation with a peer panicked");
                    }
                }
            }
        }
    }

    /// Begins to serve a peer, if there is a place.
    fn begin(&mut self, connection: OwnedFd) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::warn!(
                peers = self.shared.policy.peers,
                "refused: there are as many peers as may be"
            );
            let full = Session::new(Limits::default()).note(Code::TooManyClients);
            if let Ok(connection) = Connection::new(connection) {
                connection.finish(Some(&full));
            }
            return;
        };
        let phase = self.phase.subscribe();
        let shared = self.shared.clone();
        self.peers
            .spawn(peer::serve(shared, phase, connection, place));
    }

    fn check(&self) -> Result<(), ServeError> {
        let Some(loops) = self.shared.loops() else {
            return Ok(());
        };
        let mut all = (0..loops.loops()).map(|index| loops.is_running(index));
        match all.all(|running| running == Some(true)) {
            true => Ok(()),
            false => Err(ServeError::LoopEnded),
        }
    }

    /// Ends the loops, and then the connections of all peers.
    async fn end(mut self, drain: Duration) -> Result<(), Failure> {
        self.phase.send_replace(Phase::Stopping);
        let ended = match self.shared.take_loops() {
            Some(loops) => stop(loops, drain + CHANGES_END).await,
            None => Ok(()),
        };
        self.phase.send_replace(Phase::Ended);
        while self.peers.join_next().await.is_some() {}
        ended
    }
}

/// Stops the loops once no peer's change uses them any more.
async fn stop(mut loops: Arc<LoopGroup>, limit: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    let group = loop {
        match Arc::try_unwrap(loops) {
            Ok(group) => break group,
            Err(used) if begun.elapsed() < limit => loops = used,
            Err(_) => return Err(ServeError::InUseAtEnd.into()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let stopped = tokio::task::spawn_blocking(|| group.stop()).await;
    match stopped {
        Ok(stopped) => Ok(stopped?),
        Err(error) => Err(ServeError::Panicked(error.to_string()).into()),
    }
}

async fn accept(listening: &ReadySocket) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let accept = |fd: BorrowedFd<'_>| accept_with(fd, flags);
    loop {
        match listening.when(Interest::READABLE, accept).await {
            // The other side was faster.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            accepted => return accepted,
        }
    }
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
