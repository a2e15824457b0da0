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
#[derive(Debug, Default)]
pub(super) struct Futexes {
    words: Box<[Word]>,
    /// Set once the kernel has refused a wait.
    refused: bool,
}

#[derive(Debug)]
struct Word {
    word: FutexWord,
    /// Set while a wait is queued or with the kernel.
    armed: bool,
}

impl Futexes {
    /// Records the end of a wait.
    pub(super) fn disarm(&mut self, number: u32, res: i32) {
        if let Some(word) = self.words.get_mut(number as usize) {
            word.armed = false;
        }
        let ended = [Errno::AGAIN, Errno::INTR, Errno::CANCELED].map(Errno::raw_os_error);
        if res < 0 && !ended.contains(&-res) {
            self.refused = true;
        }
    }

    /// Returns the entry for a wait on a word, and counts it as armed from here on.
    fn arm(&mut self, number: usize, expected: u32) -> squeue::Entry {
        let Word { word, armed } = &mut self.words[number];
        *armed = true;
        opcode::FutexWait::new(word.as_ptr(), expected.into(), MATCH_ANY, SIZE_U32).build()
    }
}

impl Ring {
    /// Sets the words on which [`wait_on`](Self::wait_on) waits, in place of earlier ones. Returns whether wake-ups of them
    /// end a wait. [`RingReport::futexes`](crate::RingReport::futexes) then says by what means: the ring itself, which needs
    /// Linux 6.7, or else relays and the eventfd.
    ///
    /// Returns `false` while the ring waits on an earlier word: the end of that wait would be taken for one on a new word.
    pub fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        if self.futexes.words.iter().any(|word| word.armed) {
            return false;
        }
        self.futexes.words = Box::default();
        self.relays = Relays::default();
        let means = if self.report.supports(crate::Opcode::FutexWait) == Some(true) {
            let unarmed = |word| Word { word, armed: false };
            self.futexes.words = words.into_iter().map(unarmed).collect();
            FutexMeans::Ring
        } else {
            self.start_relays(&words)
        };
        self.report.futexes = Some(means);
        means != FutexMeans::Nothing
    }

    fn start_relays(&mut self, words: &[FutexWord]) -> FutexMeans {
        let withheld = self.report.withheld;
        let waker = self.waker();
        let cores = &self.worker_cores;
        match waker.and_then(|waker| Relays::start(words, &waker, withheld, cores)) {
            Some(relays) => {
                self.relays = relays;
                FutexMeans::Relays(self.relays.len())
            }
            None => FutexMeans::Nothing,
        }
    }

    /// Lets wake-ups of the words end the coming sleep. Returns whether they will: a wait may not be queued.
    pub(super) fn arm_futexes(&mut self, expected: &[u32]) -> Result<bool, EnterError> {
        if self.futexes.words.is_empty() {
            return Ok(self.relays.arm(expected));
        }
        if self.futexes.refused || expected.len() > self.futexes.words.len() {
            return Ok(false);
        }
        for (number, &expected) in expected.iter().enumerate() {
            if self.futexes.words[number].armed {
                continue;
            }
            if self.kernel.sq.is_full() {
                self.submit()?;
            }
            if self.kernel.sq.is_full() {
                return Ok(false);
            }
            let entry = self.futexes.arm(number, expected);
            self.enqueue(entry, Token::futex(number as u32));
        }
        Ok(true)
    }
}
