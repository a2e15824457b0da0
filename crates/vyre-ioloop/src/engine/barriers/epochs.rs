//! Epochs of one queue: the requests between fences, counted.

/// No epoch.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// Requests that are admitted and have not completed.
    outstanding: u32,
    older: u32,
    /// The next newer epoch. For a free number: the next free number.
    newer: u32,
}

impl Epoch {
    const OPEN: Self = Self {
        outstanding: 0,
        older: NONE,
        newer: NONE,
    };
}

/// The epochs of one queue, oldest first. The newest is open: requests are admitted to it.
#[derive(Debug)]
pub(super) struct Epochs {
    epochs: Box<[Epoch]>,
    oldest: u32,
    open: u32,
    free: u32,
}

impl Epochs {
    /// Returns the largest number of epochs that a queue has at once: the open one, and as many closed
    /// ones as slots, because a closed epoch holds at least one request or fence.
    pub(super) const fn number(slots: u32) -> u32 {
        slots + 1
    }

    pub(super) fn new(slots: u32) -> Self {
        let number = Self::number(slots);
        let mut epochs: Box<[Epoch]> = vec![Epoch::OPEN; number as usize].into();
        for (epoch, next) in epochs[1..].iter_mut().zip(2..) {
            epoch.newer = if next < number { next } else { NONE };
        }
        Self {
            epochs,
            oldest: 0,
            open: 0,
            free: if slots > 0 { 1 } else { NONE },
        }
    }

    /// Admits a request to the open epoch, and returns the epoch's number.
    #[inline]
    pub(super) fn admit(&mut self) -> u32 {
        self.epochs[self.open as usize].outstanding += 1;
        self.open
    }

    /// Returns whether nothing is outstanding.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        self.oldest == self.open && self.epochs[self.open as usize].outstanding == 0
    }

    /// Counts a request out of its epoch. Returns whether that epoch is closed and has nothing
    /// outstanding now.
    #[inline]
    pub(super) fn complete(&mut self, epoch: u32) -> bool {
        let outstanding = &mut self.epochs[epoch as usize].outstanding;
        *outstanding -= 1;
        *outstanding == 0 && epoch != self.open
    }

    /// Returns whether an epoch is closed and has nothing outstanding.
    pub(super) fn is_done(&self, epoch: u32) -> bool {
        epoch != self.open && self.epochs[epoch as usize].outstanding == 0
    }

    /// Returns the oldest epoch, if it is closed and has nothing outstanding.
    #[inline]
    pub(super) fn oldest_if_done(&self) -> Option<u32> {
        self.is_done(self.oldest).then_some(self.oldest)
    }

    /// Closes the open epoch, which has a fence, and returns it. Opens the next one.
    ///
    /// # Panics
    /// If closed epochs hold neither a request nor a fence, so that no number is left.
    pub(super) fn close(&mut self) -> u32 {
        let (closed, opened) = (self.open, self.free);
        let epoch = &mut self.epochs[opened as usize];
        self.free = epoch.newer;
        *epoch = Epoch {
            older: closed,
            ..Epoch::OPEN
        };
        self.epochs[closed as usize].newer = opened;
        self.open = opened;
        closed
    }

    /// Ends a closed epoch, to which nothing belongs any more.
    pub(super) fn end(&mut self, epoch: u32) {
        debug_assert!(self.is_done(epoch), "requests are outstanding");
        let Epoch { older, newer, .. } = self.epochs[epoch as usize];
        // A closed epoch has a newer one.
        self.epochs[newer as usize].older = older;
        if older == NONE {
            self.oldest = newer;
        } else {
            self.epochs[older as usize].newer = newer;
        }
        self.epochs[epoch as usize].newer = self.free;
        self.free = epoch;
    }

    /// Returns the number of epochs, counted both ways.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let walk = |from: u32, step: fn(&Epoch) -> u32| {
            std::iter::successors(Some(from), |&epoch| {
                Some(step(&self.epochs[epoch as usize])).filter(|&epoch| epoch != NONE)
            })
            .count()
        };
        let count = walk(self.oldest, |epoch| epoch.newer);
        assert_eq!(count, walk(self.open, |epoch| epoch.older));
        count
    }
}
