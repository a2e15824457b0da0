//! Loops on a transport whose operations end when the test says so, with the result that it gives.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::*;
use vyre_ioloop::{Engine, FileTable, Rights};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Queue, QueueLayout, Request, Ticket};
use vyre_uring::{
    Buffer, BufferSlot, Busy, Completion, EnterError, Errno as OsErrno, FileSlot, Operation,
    PushError, RegisterError, Token, Transport,
};

/// Operation that a [`Stage`] was given.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) op: Operation,
    pub(crate) user: u64,
    pub(crate) token: Token,
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) waiting: Vec<Played>,
    pub(crate) ended: Vec<Completion>,
    pub(crate) pushed: Vec<Operation>,
    /// Set to make `quiesce` leave what is waiting where it is.
    pub(crate) holds: bool,
}

/// Transport whose operations end when the test says so, with the result that it gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage(Arc<Mutex<Script>>);

impl Stage {
    /// Locks the script, poisoned or not: a test that fails must say why, and not abort.
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the operation that waits longest.
    pub(crate) fn end(&self, result: Result<u32, OsErrno>) {
        self.end_at(0, result);
    }

    pub(crate) fn end_at(&self, index: usize, result: Result<u32, OsErrno>) {
        let mut script = self.script();
        let Played { user, token, .. } = script.waiting.remove(index);
        script.ended.push(Completion::new(user, token, result));
    }

    pub(crate) fn waiting(&self) -> usize {
        self.script().waiting.len()
    }

    pub(crate) fn is_durable(&self, index: usize) -> bool {
        let script = self.script();
        matches!(
            script.waiting[index].op,
            Operation::Write { durable: true, .. }
        )
    }
}

impl Transport for Stage {
    fn capacity(&self) -> u32 {
        64
    }
    fn in_flight(&self) -> u32 {
        let script = self.script();
        (script.waiting.len() + script.ended.len()) as u32
    }
    fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        let mut script = self.script();
        script.pushed.push(op);
        let token = Token::from_raw(script.pushed.len() as u64);
        script.waiting.push(Played { op, user, token });
        Ok(token)
    }
    fn submit(&mut self) -> Result<u32, EnterError> {
        Ok(0)
    }
    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        let ended: Vec<_> = self.script().ended.drain(..).collect();
        let count = ended.len() as u32;
        ended.into_iter().for_each(sink);
        count
    }
    fn wait(&mut self, _: Option<Duration>) -> Result<(), EnterError> {
        Ok(())
    }
    fn cancel(&mut self, token: Token) -> bool {
        self.script().waiting.iter().any(|it| it.token == token)
    }
    fn set_file(&mut self, _: FileSlot, _: Option<Arc<OwnedFd>>) -> Result<(), RegisterError> {
        Ok(())
    }
    fn set_buffer(&mut self, _: BufferSlot, _: Option<Buffer>) -> Result<(), RegisterError> {
        Ok(())
    }
    fn quiesce(&mut self, _: Duration) -> Result<(), Busy> {
        let holds = self.script().holds;
        while !holds && self.waiting() > 0 {
            self.end(Err(OsErrno::CANCELED));
        }
        match self.waiting() as u32 {
            0 => Ok(()),
            in_flight => Err(Busy::new(in_flight)),
        }
    }
}

/// Loop with one file, on a stage.
pub(crate) struct Loop {
    pub(crate) engine: Engine<Stage>,
    pub(crate) device: DeviceQueue,
    pub(crate) stage: Stage,
    pub(crate) file: FileHandle,
    pub(crate) pool: BufferHandle,
}

impl Loop {
    pub(crate) fn on(file: impl Into<OwnedFd>) -> Self {
        let mut tables = Tables::new(16, 4096);
        tables.files = FileTable::new();
        let file = tables.files.insert(file, RIGHTS).unwrap();
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(16)).unwrap();
        let (stage, pool) = (Stage::default(), tables.pool);
        Self {
            engine: tables.engine(stage.clone(), vec![host]),
            device,
            stage,
            file,
            pool,
        }
    }

    pub(crate) fn insert(&mut self, file: impl Into<OwnedFd>) -> FileHandle {
        self.engine.insert_file(file, 0..1 << 20, RIGHTS).unwrap()
    }

    pub(crate) fn step(&mut self) {
        for _ in 0..3 {
            let _ = self.engine.step();
        }
    }

    pub(crate) fn submit(&mut self, request: Request) -> Ticket {
        let ticket = self.device.submit(request).unwrap();
        self.step();
        ticket
    }

    /// Returns the outcome of a request, if it has one.
    pub(crate) fn outcome(&mut self, ticket: &Ticket) -> Option<Result<u32, Errno>> {
        self.step();
        self.device.poll(ticket).map(|outcome| outcome.result)
    }

    /// Submits a request whose operations end in these ways, and takes its outcome.
    pub(crate) fn play(
        &mut self,
        request: Request,
        ends: &[Result<u32, OsErrno>],
    ) -> Result<u32, Errno> {
        let ticket = self.submit(request);
        for &end in ends {
            self.stage.end(end);
            self.step();
        }
        assert_eq!(self.stage.waiting(), 0, "all was said");
        self.device.take(ticket).expect("an outcome").result
    }

    pub(crate) fn sync(&mut self, ends: &[Result<u32, OsErrno>]) -> Result<u32, Errno> {
        self.play(Request::sync(self.file), ends)
    }

    pub(crate) fn durable(&self) -> Request {
        Request::write(self.file, 0, 16)
            .from_buffer(self.pool, 0)
            .durable()
    }
}

pub(crate) const RIGHTS: Rights = Rights::all();

pub(crate) fn reopened(file: &File) -> File {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(true).open(path).unwrap()
}

/// Returns a file, and a loop each on two descriptions of it and on a duplicate of the first.
pub(crate) fn loops() -> (File, [Loop; 3]) {
    let file = file_of(&[0; 4096]);
    let loops = [
        Loop::on(file.try_clone().unwrap()),
        Loop::on(reopened(&file)),
        Loop::on(file.try_clone().unwrap()),
    ];
    (file, loops)
}
