//! The real queue beside the model, and the actions on both.

use std::ops::Range;

use vyre_ioq::abi::{GROUP_SLOTS, header_word};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, HostQueue, LoopState, Outcome, QueueLayout,
    Request, Reservation, Ticket,
};

use super::{Answer, EIO, ERROR, Faults, Model, OK};
use crate::common::{Memory, WORD, mix};

/// Index that wraps around the number of things to pick from.
pub(crate) type Pick = u16;

/// Action of a device or a host. An action with nothing to pick from has no effect.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Reserve,
    /// Gives back a slot that is reserved and not yet published.
    Unreserve(Pick),
    /// Publishes in a slot that is reserved and not yet published.
    Publish(Pick, u64),
    Poll(Pick),
    Take(Pick),
    /// Abandons a request.
    Abandon(Pick),
    /// Hostile: stores any word of any slot.
    Store(Pick, usize, u32),
    /// Hostile: stores any word of the header's line 2.
    StoreHeader(usize, u32),
    Claim(Range<u32>),
    /// Announces the slots that are owed an outcome.
    Announce,
    /// Announces the slots that were also owed an outcome at the last such call.
    AnnounceLasting,
    /// Completes a slot that is owed an outcome.
    Complete(Pick, Result<u32, Errno>),
    /// Completes any slot, owed or not, inside the queue or not.
    CompleteAny(u32, Result<u32, Errno>),
    CompleteBatch([u32; 2], Result<u32, Errno>),
    CompleteOwed(Errno),
    Published,
}

/// A slot in which an honest device has published.
struct Held {
    ticket: Ticket,
    /// The request that was published there, and whether a hostile store has hit the slot since.
    request: Request,
    disturbed: bool,
    /// Number of times that the host claimed it; the outcome follows.
    claims: u32,
    answer: Option<Answer>,
}

pub(crate) struct World {
    memory: Memory,
    first: usize,
    host: HostQueue,
    device: DeviceQueue,
    pub(crate) model: Model,
    reserved: Vec<Reservation>,
    held: Vec<Held>,
    serial: u32,
    acts: u32,
}

impl World {
    pub(crate) fn new(slots: u32, bare: bool) -> Self {
        let layout = if bare {
            QueueLayout::bare(slots)
        } else {
            QueueLayout::with_slots(slots)
        };
        let memory = Memory::new(layout.bytes());
        // Every other bare queue carries counts.
        let counts = !bare || slots.is_multiple_of(2);
        let (host, device) = match (bare, counts) {
            (true, false) => (
                HostQueue::attach_bare(memory.region()),
                DeviceQueue::attach_bare(memory.region()),
            ),
            (true, true) => (
                HostQueue::attach_bare_with_counts(memory.region()),
                DeviceQueue::attach_bare_with_counts(memory.region()),
            ),
            (false, _) => (
                HostQueue::create(memory.region(), &layout),
                DeviceQueue::attach(memory.region()),
            ),
        };
        let (host, device) = (host.expect("fit"), device.expect("fit"));
        if !bare {
            // Hostile stores go to any slot. `groups.rs` tests slots of groups without a mark.
            for group in 0..slots.div_ceil(GROUP_SLOTS) as usize {
                memory.store(header_word::IN_USE + group, 1);
            }
        }
        Self {
            memory,
            first: if bare { 0 } else { 4096 / WORD },
            host,
            device,
            model: Model::new(slots, bare, counts),
            reserved: Vec::new(),
            held: Vec::new(),
            serial: 0,
            acts: 0,
        }
    }

    pub(crate) fn act(&mut self, action: &Action) {
        let before: Vec<u32> = self.model.slots.iter().map(|slot| slot[6]).collect();
        let owed_before: Vec<u32> = self.model.owed.keys().copied().collect();
        let by_host = self.act_unchecked(action);
        self.compare(action);
        if by_host {
            // Checked again without the model: the host makes no illegal step.
            for (slot, &from) in before.iter().enumerate() {
                let to = self.memory.load(self.word(slot as u32, 6));
                let owed = owed_before.contains(&(slot as u32));
                let legal = match action {
                    Action::Announce | Action::AnnounceLasting => (from, to) == (1, 2),
                    Action::Claim(_) => false,
                    _ => to == OK || to == ERROR,
                };
                // A claim in a bare queue is announced at once.
                let announced = self.model.bare
                    && self.model.owed.contains_key(&(slot as u32))
                    && matches!(action, Action::Claim(_))
                    && (from, to) == (1, 2);
                assert!(
                    to == from || owed && legal || announced,
                    "{action:?}: slot {slot} went from {from:#x} to {to:#x}"
                );
            }
        }
    }

    /// Serves and takes everything that is left, and checks that no honest request was lost.
    pub(crate) fn finish(mut self) {
        let slots = self.model.slots.len() as u32;
        self.act(&Action::Claim(0..slots));
        while !self.model.owed.is_empty() {
            self.act(&Action::Complete(0, Ok(slots)));
        }
        self.compare_slots(&Action::Published);
        self.host.set_state(LoopState::Stopped);
        for held in std::mem::take(&mut self.held) {
            if held.disturbed {
                continue;
            }
            let request = held.request;
            assert_eq!(held.claims, 1, "{request:?} was claimed once");
            let answer = held.answer.expect("answered");
            let outcome = self.device.take(held.ticket).expect("an outcome");
            assert_eq!(said(&outcome), (request.tag(), answer));
        }
    }

    /// Returns true if it was the host that acted.
    fn act_unchecked(&mut self, action: &Action) -> bool {
        match action {
            Action::Reserve => self.reserve(),
            Action::Unreserve(pick) => self.unreserve(*pick),
            Action::Publish(pick, seed) => self.publish(*pick, *seed),
            Action::Poll(pick) => self.poll(*pick),
            Action::Take(pick) => self.take(*pick),
            Action::Abandon(pick) => {
                if let Some(pick) = picked(*pick, self.held.len()) {
                    let ticket = self.held.swap_remove(pick).ticket;
                    self.model.abandon(ticket.slot());
                    self.device.abandon(ticket);
                }
            }
            Action::Store(pick, word, value) => self.hostile_store(*pick, *word, *value),
            Action::StoreHeader(word, value) => {
                if !self.model.bare {
                    self.memory.store(32 + word % 16, *value);
                }
            }
            Action::Claim(range) => self.claim(range.clone()),
            Action::Announce => {
                assert_eq!(self.host.announce_claims(), self.model.announce(false));
            }
            Action::AnnounceLasting => {
                let announced = self.model.announce(true);
                assert_eq!(self.host.announce_lasting_claims(), announced);
            }
            Action::Complete(pick, result) => self.complete_one_owed(*pick, *result),
            Action::CompleteAny(slot, result) => self.complete(*slot, *result),
            Action::CompleteBatch(slots, result) => self.complete_batch(*slots, *result),
            Action::CompleteOwed(errno) => self.complete_owed(*errno),
            Action::Published => {
                assert_eq!(
                    self.host.published().collect::<Vec<_>>(),
                    self.model.published()
                );
            }
        }
        matches!(
            action,
            Action::Claim(..)
                | Action::Announce
                | Action::AnnounceLasting
                | Action::Complete(..)
                | Action::CompleteAny(..)
                | Action::CompleteBatch(..)
                | Action::CompleteOwed(..)
                | Action::Published
        )
    }

    fn reserve(&mut self) {
        let slots = self.model.slots.len() as u32;
        match (self.device.reserve(), self.model.reserve()) {
            (Ok(reservation), Some(slot)) => {
                assert_eq!(reservation.slot(), slot);
                self.reserved.push(reservation);
            }
            (Err(full), None) => assert_eq!(full.slots, slots),
            (real, model) => panic!("reserved {real:?}, the model {model:?}"),
        }
    }

    fn unreserve(&mut self, pick: Pick) {
        if let Some(pick) = picked(pick, self.reserved.len()) {
            let reservation = self.reserved.swap_remove(pick);
            self.model.unreserve(reservation.slot());
            self.device.unreserve(reservation);
        }
    }

    fn publish(&mut self, pick: Pick, seed: u64) {
        let Some(pick) = picked(pick, self.reserved.len()) else {
            return;
        };
        let reservation = self.reserved.swap_remove(pick);
        let slot = reservation.slot();
        let request = some_request(seed, self.model.bare).with_tag(self.serial);
        let ticket = self.device.publish(reservation, &request);
        assert_eq!(ticket.slot(), slot);
        self.model.publish(slot, &request);
        self.serial += 1;
        self.held.push(Held {
            ticket,
            request,
            // Before the publication, nobody relies on the words of a reserved slot. But the host may have claimed
            // a request there that a hostile store made up.
            disturbed: self.model.owed.contains_key(&slot),
            claims: 0,
            answer: None,
        });
    }

    fn poll(&mut self, pick: Pick) {
        if let Some(pick) = picked(pick, self.held.len()) {
            let held = &self.held[pick];
            let outcome = self.device.poll(&held.ticket);
            let expected = self.model.poll(held.ticket.slot());
            assert_eq!(outcome.as_ref().map(said), expected);
        }
    }

    fn take(&mut self, pick: Pick) {
        let Some(pick) = picked(pick, self.held.len()) else {
            return;
        };
        let mut held = self.held.swap_remove(pick);
        let slot = held.ticket.slot();
        match (self.device.take(held.ticket), self.model.take(slot)) {
            (Ok(outcome), Some(expected)) => {
                assert_eq!(said(&outcome), expected);
                if !held.disturbed {
                    let request = held.request;
                    assert_eq!(held.claims, 1, "{request:?} was claimed once");
                    assert_eq!(expected, (request.tag(), held.answer.expect("answered")));
                }
            }
            (Err(ticket), None) => {
                held.ticket = ticket;
                self.held.push(held);
            }
            (real, model) => panic!("took {real:?}, the model {model:?}"),
        }
    }

    fn hostile_store(&mut self, pick: Pick, word: usize, value: u32) {
        let slot = u32::from(pick) % self.model.slots.len() as u32;
        let word = word % if self.model.bare { 8 } else { 16 };
        self.memory.store(self.word(slot, word), value);
        self.model.slots[slot as usize][word] = value;
        if let Some(held) = self.held.iter_mut().find(|held| held.ticket.slot() == slot) {
            held.disturbed = true;
        }
    }

    fn claim(&mut self, range: Range<u32>) {
        let mut claims = Vec::new();
        let many = self.host.claim_published(range.clone(), |claim| {
            claims.push((claim.slot, bytemuck::cast::<_, [u32; 16]>(claim.image)));
        });
        assert_eq!(many as usize, claims.len());
        for (slot, _) in &claims {
            assert!(
                !self.model.owed.contains_key(slot),
                "slot {slot} claimed twice"
            );
        }
        assert_eq!(claims, self.model.claim(range.start, range.end));
        for (slot, image) in claims {
            let held = self.held.iter_mut().find(|held| held.ticket.slot() == slot);
            let Some(held) = held.filter(|held| !held.disturbed) else {
                continue;
            };
            let decoded = Request::decode(&bytemuck::cast(image)).expect("honest");
            assert_eq!(decoded, held.request, "torn or changed");
            held.claims += 1;
        }
    }

    fn complete_one_owed(&mut self, pick: Pick, result: Result<u32, Errno>) {
        let owed: Vec<u32> = self.model.owed.keys().copied().collect();
        if let Some(pick) = picked(pick, owed.len()) {
            self.complete(owed[pick], result);
            // Each is completed once.
            self.complete(owed[pick], Ok(!0));
        }
    }

    fn complete(&mut self, slot: u32, result: Result<u32, Errno>) {
        let done = self.host.complete(slot, result);
        if let Err(not_owed) = done {
            assert_eq!(not_owed.slot, slot);
        }
        assert_eq!(done.is_ok(), self.answer(slot, result));
    }

    fn complete_batch(&mut self, slots: [u32; 2], result: Result<u32, Errno>) {
        let done = self.host.complete_batch(&slots.map(|slot| (slot, result)));
        let owed = slots.map(|slot| self.answer(slot, result));
        let refused = owed.into_iter().position(|owed| !owed);
        let refused = refused.map(|index| slots[index]);
        assert_eq!(done.err().map(|not_owed| not_owed.slot), refused);
    }

    fn complete_owed(&mut self, errno: Errno) {
        let owed: Vec<u32> = self.model.owed.keys().copied().collect();
        assert_eq!(self.host.complete_owed(errno) as usize, owed.len());
        for slot in owed {
            assert!(self.answer(slot, Err(errno)));
        }
    }

    /// Completes a slot in the model. Returns whether it was owed an outcome.
    fn answer(&mut self, slot: u32, result: Result<u32, Errno>) -> bool {
        let answer = answer_of(result);
        let owed = self.model.complete(slot, answer);
        let held = self.held.iter_mut().find(|held| held.ticket.slot() == slot);
        if let (true, Some(held)) = (owed, held) {
            // The outcome as the device sees it.
            let count = match (self.model.counts, answer.status) {
                (true, _) => answer.count,
                (false, OK) => held.request.count(),
                (false, _) => EIO,
            };
            held.answer = Some(Answer { count, ..answer });
        }
        owed
    }

    /// Compares everything that can be seen. Compares every word of a large queue only now and then.
    fn compare(&mut self, action: &Action) {
        self.acts += 1;
        if self.model.slots.len() <= 8 || self.acts.is_multiple_of(16) {
            self.compare_slots(action);
        }
        assert_eq!(self.host.owed() as usize, self.model.owed.len());
        let faults = self.host.faults();
        let found = Faults {
            unknown: faults.unknown_status,
            forged: faults.forged_claim,
            overwritten: faults.overwritten,
        };
        assert_eq!(found, self.model.faults, "{action:?}");
        assert_eq!(
            faults.total(),
            found.unknown + found.forged + found.overwritten
        );
    }

    fn compare_slots(&self, action: &Action) {
        let words = if self.model.bare { 8 } else { 16 };
        for (slot, expected) in self.model.slots.iter().enumerate() {
            for (word, &expected) in expected.iter().enumerate().take(words) {
                let found = self.memory.load(self.word(slot as u32, word));
                assert_eq!(found, expected, "{action:?}: slot {slot}, word {word}");
            }
        }
        let past = self.model.slots.len() as u32 + 1;
        for slot in 0..past {
            let owed = self.model.owed.contains_key(&slot);
            assert_eq!(self.host.is_owed(slot), owed, "{action:?}: slot {slot}");
        }
    }

    fn word(&self, slot: u32, word: usize) -> usize {
        let stride = if self.model.bare { 8 } else { 16 };
        self.first + slot as usize * stride + word
    }
}

fn picked(pick: Pick, many: usize) -> Option<usize> {
    usize::from(pick).checked_rem(many)
}

fn answer_of(result: Result<u32, Errno>) -> Answer {
    match result {
        Ok(count) => Answer { status: OK, count },
        Err(errno) => Answer {
            status: ERROR,
            count: errno.raw(),
        },
    }
}

fn said(outcome: &Outcome) -> (u32, Answer) {
    (outcome.tag, answer_of(outcome.result))
}

/// Returns a request of any operation, with every word set that it may carry.
pub(crate) fn some_request(seed: u64, bare: bool) -> Request {
    let [a, b, c] = [mix(seed), mix(!seed), mix(seed ^ 0x55)];
    let (file, buffer) = (
        FileHandle::from_raw(a as u32),
        BufferHandle::from_raw(b as u32),
    );
    let (count, buffer_offset) = ((b >> 32) as u32, if bare { 0 } else { a });
    let request = match seed % 6 {
        0 => Request::read(file, c, count).into_buffer(buffer, buffer_offset),
        1 => Request::write(file, c, count).from_buffer(buffer, buffer_offset),
        2 => Request::fence(),
        3 => Request::sync(file),
        4 => Request::prefetch(file, c, count),
        _ => Request::map(file, c, count),
    };
    match (bare, seed % 6) {
        (false, 0) => request.exact().with_deadline(c as u32),
        (false, 1) => request.durable().with_deadline(c as u32),
        _ => request,
    }
}
