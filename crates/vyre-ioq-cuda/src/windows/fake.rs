//! Pages that a test can take away.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vyre_uring::Errno;

use super::mapper::Pages;

/// The calls of a mapper, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    ReadAhead(Range<u32>),
    Fill(Range<u32>),
    Pin(Range<u32>),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) calls: Vec<Call>,
    /// Windows that are not in memory.
    pub(super) cold: BTreeSet<u32>,
    /// Windows that cannot be pinned, and why.
    pub(super) broken: BTreeSet<u32>,
    pub(super) errno: Option<Errno>,
    /// The windows that may be pinned.
    pub(super) room: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

impl Fake {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the calls since the last call of this function.
    pub(super) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }
}

impl Pages for Fake {
    fn seems_cached(&self, window: u32) -> bool {
        !self.state().cold.contains(&window)
    }

    fn read_ahead(&self, windows: &Range<u32>) {
        let call = Call::ReadAhead(windows.clone());
        self.state().calls.push(call);
    }

    fn fill(&self, windows: &Range<u32>) -> Result<(), Errno> {
        let mut state = self.state();
        state.calls.push(Call::Fill(windows.clone()));
        for window in windows.clone() {
            state.cold.remove(&window);
        }
        Ok(())
    }

    fn pin(&mut self, windows: &Range<u32>) -> Result<(), Errno> {
        let mut state = self.state();
        state.calls.push(Call::Pin(windows.clone()));
        if windows.clone().any(|window| state.broken.contains(&window)) {
            return Err(state.errno.unwrap_or(Errno::IO));
        }
        let many = windows.len() as u32;
        match &mut state.room {
            Some(room) if *room < many => return Err(Errno::NOBUFS),
            Some(room) => *room -= many,
            None => {}
        }
        Ok(())
    }
}
