//! Memory for requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use vyre_io::{Buffer, BufferHandle, Errno, IoLoop, Rights, TableError};

use super::{Engine, Inner, Refused};
use crate::memory::Span;
use crate::op::{CHUNK, Kind, Op, Place};

/// Memory that a caller registered. It is unregistered once neither the caller nor an operation needs it.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(super) handle: BufferHandle,
    engine: Arc<Engine>,
    is_over: AtomicBool,
}

impl Registration {
    /// Registers memory for any number of operations.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        span: &Span,
    ) -> Result<Result<Self, TableError>, Refused> {
        let rights = if span.is_read_only() {
            Rights::READ
        } else {
            Rights::READ | Rights::WRITE
        };
        let buffer = span.to_buffer();
        let insert = |io: &IoLoop| io.insert_buffer(buffer, .., rights);
        let inserted = engine.inner()?.with_loop(insert).ok_or(Refused::Closed)?;
        Ok(inserted.map(|handle| Self {
            handle,
            engine: Arc::clone(engine),
            is_over: AtomicBool::new(false),
        }))
    }

    /// Returns whether an engine is the one that knows the memory.
    pub(crate) fn is_of(&self, engine: &Arc<Engine>) -> bool {
        Arc::ptr_eq(&self.engine, engine)
    }

    /// Has the loop forget the memory, and waits for what is in flight there.
    pub(crate) fn end(&self) {
        // Relaxed: it matters only that one of several calls acts.
        if !self.is_over.swap(true, Relaxed)
            && let Ok(inner) = self.engine.inner()
        {
            inner.with_loop(|io| io.revoke_buffer(self.handle));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.end();
    }
}

impl Inner {
    /// Registers memory for a long operation: the caller's, or a copy of it if the kernel could not pin that. `None` if
    /// there is no room, or no memory, for another one.
    pub(super) fn own_place(&self, op: &Op) -> Option<Place> {
        let span = op.span.as_ref()?;
        let buffer = if span.is_read_only() {
            // Read-only memory may be a file's, which nobody may pin to write to it.
            let copy = Buffer::anonymous(span.len()).ok()?;
            span.copy_to(&copy, 0);
            copy
        } else {
            span.to_buffer()
        };
        let rights = match op.kind {
            Kind::Read => Rights::WRITE,
            Kind::Write | Kind::Sync => Rights::READ,
        };
        let insert = |io: &IoLoop| io.insert_buffer(buffer, .., rights);
        let handle = self.with_loop(insert)?.ok()?;
        Some(Place::Own { handle })
    }

    /// Copies what a read has put into the transfer memory to where the caller wants it.
    pub(super) fn copy_out(&self, op: &Op, slot: u32, count: usize) {
        if let (Kind::Read, Some(Place::Transfer), Some(span)) = (op.kind, &op.place, &op.span)
            && !op.is_cancelled()
        {
            span.copy_from(&self.transfer, slot as usize * CHUNK, count);
        }
    }

    /// Ends an operation, whose memory the loop forgets.
    pub(super) fn end(&self, op: Op, result: Result<usize, Errno>) {
        if let Some(Place::Own { handle }) = op.place {
            self.with_loop(|io| io.revoke_buffer(handle));
        }
        op.end(result);
    }
}
