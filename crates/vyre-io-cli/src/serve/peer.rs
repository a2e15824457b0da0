//! One peer, from its connection to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{UCred, sockopt};
use tokio::sync::{OwnedSemaphorePermit, watch};
use vyre_io_client::protocol::{
    Call, Code, Done, Event, FileEntry, Hello, Packet, Page, PeerStatus, Refused, Reply, Session,
    feature, sizes,
};

use super::holdings::{Holdings, PATIENCE};
use super::packets::{Connection, PacketBuffer};
use super::policy::{PeerUser, ServedFile, may_see_status};
use super::record::Record;
use super::server::{Phase, Shared};

/// Time that a peer has for HELLO.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// The end of a peer's conversation.
#[derive(Debug)]
enum End {
    /// It said GOODBYE, and was answered.
    Goodbye,
    /// It hung up or died.
    HungUp,
    /// It is cut off, with this last packet.
    Cut(Packet, Box<Refused>),
    /// The server ends.
    Stopping,
    Failed(io::Error),
}

/// An answer, and the descriptor that goes with it.
type Answer = Result<(Reply, Option<OwnedFd>), Box<Refused>>;

fn because(code: Code) -> Box<Refused> {
    Box::new(Refused::because(code))
}

/// Serves one peer until it has gone, and takes back what it had.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    connection: OwnedFd,
    place: OwnedSemaphorePermit,
) {
    let by = match sockopt::socket_peercred(&connection) {
        Ok(by) => by,
        Err(error) => return tracing::error!(%error, "the kernel names no user of a connection"),
    };
    let connection = match Connection::new(connection) {
        Ok(connection) => connection,
        Err(error) => return tracing::error!(%error, "a connection cannot be watched"),
    };
    let record = shared.records.add(pid_of(by), by.uid.as_raw());
    let Record { peer, pid, uid, .. } = *record;
    tracing::debug!(peer, pid, uid, "connected");
    let user = user_of(&shared, uid, by.gid.as_raw()).await;
    let limits = shared.policy.admit(&user);
    let mut peer = Peer {
        shared,
        phase,
        connection,
        record,
        session: Session::new(limits.unwrap_or_default()),
        user,
        is_admitted: limits.is_some(),
        holdings: None,
    };
    let end = peer.converse().await;
    peer.end(end).await;
    drop(place);
}

/// The process of a peer, or 0 if it is outside of this process's namespace.
fn pid_of(by: UCred) -> u32 {
    by.pid.as_raw_pid().try_into().unwrap_or(0)
}

async fn user_of(shared: &Shared, uid: u32, gid: u32) -> PeerUser {
    let groups = vec![gid];
    if !shared.policy.asks_for_groups() {
        return PeerUser { uid, groups };
    }
    let looked_up = tokio::task::spawn_blocking(move || PeerUser::look_up(uid, gid));
    looked_up.await.unwrap_or(PeerUser { uid, groups })
}

struct Peer {
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    connection: Connection,
    record: Arc<Record>,
    session: Session,
    user: PeerUser,
    is_admitted: bool,
    /// Its queues, buffers and handles, except while a job changes them.
    holdings: Option<Holdings>,
}

impl Peer {
    async fn converse(&mut self) -> End {
        let mut buffer: PacketBuffer = [0; sizes::MESSAGE_BYTES as usize];
        let greeted = tokio::time::timeout(HELLO_TIME, self.next(&mut buffer)).await;
        let mut next = greeted.unwrap_or_else(|_| Err(self.cut(Code::TooSlow)));
        loop {
            let call = match next {
                Ok(call) => call,
                Err(end) => return end,
            };
            let (packet, fd) = match self.answer(call).await {
                Ok(answer) => answer,
                Err(refused) => {
                    let packet = self.session.refuse(*refused);
                    if self.session.is_ended() {
                        return End::Cut(packet, refused);
                    }
                    self.refused(&refused);
                    (packet, None)
                }
            };
            match self.connection.send(&packet, fd).await {
                Ok(()) if call == Call::Goodbye => return End::Goodbye,
                Ok(()) => {}
                Err(error) => return self.not_sent(error),
            }
            // One request of a peer, then one of the next.
            tokio::task::yield_now().await;
            next = self.next(&mut buffer).await;
        }
    }

    /// Receives packets until one is a call. Answers those that are refused.
    async fn next(&mut self, buffer: &mut PacketBuffer) -> Result<Call, End> {
        loop {
            let received = tokio::select! {
                received = self.connection.receive(buffer) => received.map_err(End::Failed)?,
                _ = self.phase.wait_for(|phase| *phase != Phase::Serving) => {
                    return Err(End::Stopping);
                }
            };
            let Some(received) = received else {
                return Err(End::HungUp);
            };
            let packet = &buffer[..received.len];
            match self.session.receive(packet, received.is_strange) {
                Event::Call(call) => return Ok(call),
                Event::Answer(packet, refused) => {
                    self.refused(&refused);
                    let sent = self.connection.send(&packet, None).await;
                    sent.map_err(|error| self.not_sent(error))?;
                }
                Event::Cut(packet, refused) => return Err(End::Cut(packet, Box::new(refused))),
            }
            tokio::task::yield_now().await;
        }
    }

    fn not_sent(&mut self, error: io::Error) -> End {
        match error.kind() {
            io::ErrorKind::TimedOut => self.cut(Code::TooSlow),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => End::HungUp,
            _ => End::Failed(error),
        }
    }

    fn cut(&mut self, code: Code) -> End {
        End::Cut(self.session.note(code), because(code))
    }

    fn refused(&self, refused: &Refused) {
        let refusals = self.session.refusals();
        self.record.change(|shown| shown.refusals = refusals);
        tracing::debug!(peer = self.record.peer, %refused, "refused");
    }

    async fn answer(&mut self, call: Call) -> Result<(Packet, Option<OwnedFd>), Box<Refused>> {
        if let Call::Hello(hello) = call {
            return Ok((self.welcome(&hello)?, None));
        }
        let (reply, fd) = self.perform(call).await?;
        Ok((self.session.answer(&reply), fd))
    }

    fn welcome(&mut self, hello: &Hello) -> Result<Packet, Box<Refused>> {
        self.record.change(|shown| shown.name = hello.name);
        let Record { peer, pid, uid, .. } = *self.record;
        if !self.is_admitted {
            return Err(because(Code::NotPermitted));
        }
        if self.shared.records.of_user(uid) > self.shared.policy.peers_per_user {
            let text = "this user has as many clients as it may have: end one first";
            return Err(Box::new(Refused::with_text(Code::TooManyClients, text)));
        }
        let loops = self.shared.loops();
        let loops = loops.ok_or_else(|| because(Code::ShuttingDown))?;
        let limits = *self.session.limits();
        self.holdings = Some(Holdings::new(loops, limits, self.record.clone()));
        let files = self.shared.policy.files_of(&self.user).count() as u32;
        let features = match may_see_status(uid) {
            true => feature::STATUS,
            false => 0,
        };
        tracing::info!(peer, pid, uid, name = ?hello.name.as_str(), "joined");
        Ok(self.session.welcome(peer, files, features))
    }

    /// Carries a call out.
    async fn perform(&mut self, call: Call) -> Answer {
        match call {
            Call::List { cursor } => Ok((self.list(cursor), None)),
            Call::Status { cursor } => Ok((self.status(cursor)?, None)),
            Call::Goodbye => Ok((Reply::Done(Done {}), None)),
            Call::Open { name, .. } => {
                let is_it = |file: &&Arc<ServedFile>| file.name == name.as_str();
                let file = self.shared.policy.files_of(&self.user).find(is_it);
                let file = file.cloned();
                let file = file.ok_or_else(|| because(Code::NoSuchFile))?;
                self.change(call, Some(file)).await
            }
            call => self.change(call, None).await,
        }
    }

    fn list(&self, cursor: u64) -> Reply {
        let skipped = usize::try_from(cursor).unwrap_or(usize::MAX);
        let most = Page::<FileEntry>::MOST;
        let mut files = self.shared.policy.files_of(&self.user).skip(skipped);
        let entries = files.by_ref().take(most).map(|file| file.entry());
        let entries: Vec<_> = entries.collect();
        let next = files.next().map_or(0, |_| cursor + entries.len() as u64);
        // There are no more than fit.
        Reply::Files(Page::new(entries, next).unwrap_or_else(|error| unreachable!("{error}")))
    }

    fn status(&self, cursor: u64) -> Result<Reply, Box<Refused>> {
        if !may_see_status(self.record.uid) {
            return Err(because(Code::NotPermitted));
        }
        let loops = self.shared.loops();
        let loops = loops.ok_or_else(|| because(Code::ShuttingDown))?;
        Ok(Reply::StatusIs(self.shared.records.page(cursor, &loops)))
    }

    /// Changes what the peer has, on a thread that may wait for the loops.
    async fn change(&mut self, call: Call, file: Option<Arc<ServedFile>>) -> Answer {
        let internal = || because(Code::Internal);
        let mut holdings = self.holdings.take().ok_or_else(internal)?;
        // What takes time for a peer's own sake is done for few peers at a time; nobody waits for a peer that gives
        // something back.
        let _turn = match call {
            Call::Queue { .. } | Call::Buffer { .. } | Call::Open { .. } => {
                self.shared.changes.acquire().await.ok()
            }
            _ => None,
        };
        let job = move || {
            let answer = change(&mut holdings, call, file.as_deref());
            (holdings, answer)
        };
        match tokio::task::spawn_blocking(job).await {
            Ok((holdings, answer)) => {
                self.holdings = Some(holdings);
                answer
            }
            Err(error) => {
                tracing::error!(peer = self.record.peer, %error, "a change panicked");
                Err(internal())
            }
        }
    }

    /// Takes back what the peer had.
    async fn end(self, end: End) {
        let Self {
            shared,
            mut phase,
            connection,
            record,
            mut session,
            holdings,
            ..
        } = self;
        let (refusals, has_joined) = (session.refusals(), holdings.is_some());
        record.change(|shown| {
            shown.refusals = refusals;
            shown.is_leaving = true;
        });
        let last = if matches!(end, End::Stopping) {
            let last = holdings.map(Holdings::forget);
            // The queues say that the host is gone before the connection does.
            let _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
            connection.finish(Some(&session.note(Code::ShuttingDown)));
            last
        } else {
            connection.finish(match &end {
                End::Cut(packet, _) => Some(packet),
                _ => None,
            });
            let patience = match end {
                End::Goodbye => PATIENCE,
                _ => Duration::ZERO,
            };
            let taking = holdings.map(|holdings| move || holdings.end(patience));
            match taking.map(tokio::task::spawn_blocking) {
                Some(taken) => taken.await.ok(),
                None => None,
            }
        };
        let last = last.unwrap_or_default();
        shared.records.remove(&record, &last);
        tell(&record, has_joined, &end, &last);
    }
}

/// Logs the end of a peer.
fn tell(record: &Record, has_joined: bool, end: &End, last: &PeerStatus) {
    let Record { peer, pid, uid, .. } = *record;
    let name = record.name();
    let name = name.as_str();
    let how = match end {
        End::Goodbye => "said goodbye",
        End::HungUp => "hung up",
        End::Stopping => "was served until the end",
        End::Failed(error) => {
            tracing::warn!(peer, pid, uid, ?name, %error, "its connection failed");
            "lost its connection"
        }
        End::Cut(_, refused) => {
            tracing::warn!(peer, pid, uid, ?name, %refused, "cut off");
            "was cut off"
        }
    };
    if has_joined {
        let PeerStatus {
            claimed,
            succeeded,
            failed,
            bytes_read,
            bytes_written,
            device_faults,
            refusals,
            ..
        } = *last;
        tracing::info!(
            peer,
            pid,
            uid,
            ?name,
            claimed,
            succeeded,
            failed,
            bytes_read,
            bytes_written,
            device_faults,
            refusals,
            "left: it {how}"
        );
    } else {
        tracing::debug!(peer, pid, uid, "gone: it {how}");
    }
}

/// Carries out a call that changes what a peer has.
fn change(holdings: &mut Holdings, call: Call, file: Option<&ServedFile>) -> Answer {
    let done = |()| (Reply::Done(Done {}), None);
    match call {
        Call::Queue { queue, slots, .. } => {
            let (answer, memory) = holdings.add_queue(queue, slots).map_err(because)?;
            Ok((Reply::QueueIs(answer), Some(memory)))
        }
        Call::Buffer { queue, bytes } => {
            let (answer, memory) = holdings.add_buffer(queue, bytes).map_err(because)?;
            Ok((Reply::BufferIs(answer), Some(memory)))
        }
        Call::Open { queue, rights, .. } => {
            let file = file.ok_or_else(|| because(Code::NoSuchFile))?;
            let answer = holdings.open(queue, file, rights).map_err(because)?;
            Ok((Reply::FileIs(answer), None))
        }
        Call::CloseFile { handle, .. } => holdings.close_file(handle).map(done).map_err(because),
        Call::CloseBuffer { handle, .. } => {
            holdings.close_buffer(handle).map(done).map_err(because)
        }
        Call::CloseQueue { queue } => holdings.close_queue(queue).map(done).map_err(because),
        Call::Hello(_) | Call::List { .. } | Call::Status { .. } | Call::Goodbye => {
            Err(because(Code::Internal))
        }
    }
}
