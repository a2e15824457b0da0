//! Waits on futexes, which end a sleep when another thread or process wakes them.
//!
//! A wait is an entry of the ring (`FUTEX_WAIT`). The kernel compares the word with the expected value and queues the
//! wait in one step, under the lock that a wake-up takes. So a wake-up after the comparison completes the entry, and the
//! comparison finds a store that came before. A wait stays with the kernel across sleeps until it completes. Its expected value may
//! be an old one by then, but it is not compared again: the next wake-up completes it, whatever the word holds.

use io_uring::{opcode, squeue};
use rustix::io::Errno;

use super::Ring;
use crate::completion::Token;
use crate::error::EnterError;
use crate::futex_means::FutexMeans;
use crate::futex_word::FutexWord;
use crate::relay::Relays;

/// `FUTEX2_SIZE_U32`: a word of 32 bits. Without `FUTEX2_PRIVATE`, other processes can wake it.
const SIZE_U32: u32 = 2;

/// `FUTEX_BITSET_MATCH_ANY`: every wake-up ends the wait.
const MATCH_ANY: u64 = u32::MAX as u64;

/// The words on which a ring waits.
///
/// A word has a place as long as it is among the words, and then until its last wait has ended. So the end of a wait is
/// never taken for one on another word: not even at the same address, where other memory may have been mapped since.
#[derive(Debug, Default)]
pub(super) struct Futexes {
    /// The places of the words.
    current: Vec<u32>,
    pub(super) places: Vec<Place>,
    /// Set once the kernel has refused a wait.
    refused: bool,
    /// The threads that wait on the words if the ring cannot.
    relays: Option<Relays>,
}

#[derive(Debug)]
pub(super) struct Place {
    word: FutexWord,
    /// Set while a wait is queued or with the kernel.
    pub(super) armed: bool,
    /// Set while the word is among the words.
    current: bool,
    /// Set once the kernel was asked to end the wait on a word that is not among the words any more.
    ending: bool,
}

impl Futexes {
    /// Records the end of a wait.
    pub(super) fn disarm(&mut self, number: u32, res: i32) {
        let Some(place) = self.places.get_mut(number as usize) else {
            return;
        };
        place.armed = false;
        let ended = [Errno::AGAIN, Errno::INTR, Errno::CANCELED].map(Errno::raw_os_error);
        if place.current && res < 0 && !ended.contains(&-res) {
            self.refused = true;
        }
    }

    /// Gives a word a place, in which no wait on another word is left.
    fn place(&mut self, word: FutexWord) -> u32 {
        let place = Place {
            word,
            armed: false,
            current: true,
            ending: false,
        };
        let free = |place: &Place| !place.armed && !place.current;
        if let Some(number) = self.places.iter().position(free) {
            self.places[number] = place;
            return number as u32;
        }
        self.places.push(place);
        self.places.len() as u32 - 1
    }

    /// Replaces the words. Those that were there before keep their places and their waits.
    fn replace(&mut self, words: Vec<FutexWord>) {
        let before = std::mem::take(&mut self.current);
        for &number in &before {
            self.places[number as usize].current = false;
        }
        let mut kept: Vec<Option<u32>> = Vec::with_capacity(words.len());
        for word in &words {
            let place = before.iter().copied().find(|&number| {
                let place = &self.places[number as usize];
                place.word == *word && !place.current
            });
            if let Some(number) = place {
                self.places[number as usize].current = true;
            }
            kept.push(place);
        }
        // Not before: a new word is not to take the place of one that stays.
        let places = kept.into_iter().zip(words);
        let current = places.map(|(kept, word)| kept.unwrap_or_else(|| self.place(word)));
        self.current = current.collect();
    }

    /// Returns the entry for a wait on a word, and counts it as armed from here on.
    fn arm(&mut self, number: u32, expected: u32) -> squeue::Entry {
        let Place { word, armed, .. } = &mut self.places[number as usize];
        *armed = true;
        opcode::FutexWait::new(word.as_ptr(), expected.into(), MATCH_ANY, SIZE_U32).build()
    }
}

impl Ring {
    /// Sets the words on which [`wait_on`](Self::wait_on) waits, in place of earlier ones. Returns whether wake-ups of them
    /// end a wait. [`RingReport::futexes`](crate::RingReport::futexes) then says by what means: the ring itself, which needs
    /// Linux 6.7, or else relays and the eventfd.
    ///
    /// The words may be replaced at any time. A wait on a word that is not among them any more is cancelled; until the
    /// kernel has ended it, a wake-up there can end a wait early.
    pub fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        let listens = !words.is_empty();
        let means = if self.report.supports(crate::Opcode::FutexWait) == Some(true) {
            self.futexes.replace(words);
            self.end_futexes();
            FutexMeans::Ring
        } else {
            self.start_relays(&words)
        };
        self.report.futexes = listens.then_some(means);
        means != FutexMeans::Nothing
    }

    fn start_relays(&mut self, words: &[FutexWord]) -> FutexMeans {
        let withheld = self.report.withheld;
        let waker = self.waker();
        let started = waker.and_then(|waker| Relays::start(words, &waker, withheld));
        let means = started.as_ref().map(Relays::means);
        self.futexes.relays = started;
        means.unwrap_or(FutexMeans::Nothing)
    }

    /// Asks the kernel to end the waits on words that are not among the words any more, as far as there is room.
    fn end_futexes(&mut self) {
        for number in 0..self.futexes.places.len() {
            let place = &self.futexes.places[number];
            if !place.armed || place.current || place.ending {
                continue;
            }
            let is_room = !self.kernel.sq.is_full() && self.cancels < self.capacity();
            if self.poisoned.is_some() || !is_room {
                return;
            }
            self.futexes.places[number].ending = true;
            self.enqueue_futex_end(Token::futex(number as u32));
        }
    }

    /// Lets wake-ups of the words end the coming sleep. Returns whether they will: a wait may not be queued.
    pub(super) fn arm_futexes(&mut self, expected: &[u32]) -> Result<bool, EnterError> {
        if let Some(relays) = &self.futexes.relays {
            return Ok(relays.arm(expected));
        }
        if self.futexes.refused || expected.len() > self.futexes.current.len() {
            return Ok(false);
        }
        self.end_futexes();
        for (at, &expected) in expected.iter().enumerate() {
            let number = self.futexes.current[at];
            if self.futexes.places[number as usize].armed {
                continue;
            }
            if self.kernel.sq.is_full() {
                self.submit()?;
            }
            if self.kernel.sq.is_full() {
                return Ok(false);
            }
            let entry = self.futexes.arm(number, expected);
            self.enqueue(entry, Token::futex(number));
        }
        Ok(true)
    }
}
