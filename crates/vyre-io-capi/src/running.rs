//! A loop or a group that several threads use and one of them ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::code::Code;
use crate::failure::Failure;

/// Something that runs until it is taken out to be ended.
pub(crate) struct Running<T>(Mutex<Option<Arc<T>>>);

impl<T> Running<T> {
    pub(crate) fn new(running: T) -> Self {
        Self(Mutex::new(Some(Arc::new(running))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        // A panic under the lock changes nothing: see `quick`.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something that is answered at once. The end waits for it.
    pub(crate) fn quick<A>(&self, ask: impl FnOnce(&T) -> A) -> Result<A, Failure> {
        let running = self.lock();
        Ok(ask(running.as_ref().ok_or_else(Failure::ended)?))
    }

    /// Returns a share for a call that may take long. There is no end while one exists.
    pub(crate) fn share(&self) -> Result<Arc<T>, Failure> {
        self.lock().clone().ok_or_else(Failure::ended)
    }

    /// Takes it out, to end it.
    pub(crate) fn take(&self) -> Result<T, Failure> {
        let mut running = self.lock();
        let shared = running.take().ok_or_else(Failure::ended)?;
        Arc::try_unwrap(shared).map_err(|shared| {
            *running = Some(shared);
            let message = "another thread changes it: wait until its call returns";
            Failure::new(Code::Busy, message)
        })
    }
}
