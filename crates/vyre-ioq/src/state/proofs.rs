//! Proofs about every status word. Only `cargo kani` runs them.

use super::{
    Observation, PeerFault, Side, State, Step, StepFault, is_in_order, observe, published_in, step,
};

const EMPTY: u32 = 0;
const PUBLISHED: u32 = 1;
const CLAIMED: u32 = 2;
const OK: u32 = 0x10;
const ERROR: u32 = 0x11;

fn any_side() -> Side {
    if kani::any() {
        Side::Device
    } else {
        Side::Host
    }
}

/// Returns the step that the table of the ABI has.
fn step_of(side: Side, from: u32, to: u32) -> Option<Step> {
    match (side, from, to) {
        (Side::Device, EMPTY | OK | ERROR, PUBLISHED) => Some(Step::Publish),
        (Side::Host, PUBLISHED, CLAIMED) => Some(Step::Announce),
        (Side::Host, PUBLISHED | CLAIMED, OK) => Some(Step::CompleteOk),
        (Side::Host, PUBLISHED | CLAIMED, ERROR) => Some(Step::CompleteError),
        (Side::Device, OK | ERROR, EMPTY) => Some(Step::Recycle),
        _ => None,
    }
}

fn is_named(word: u32) -> bool {
    matches!(word, EMPTY | PUBLISHED | CLAIMED | OK | ERROR)
}

#[kani::proof]
fn the_steps_are_those_of_the_table() {
    let (side, from, to) = (any_side(), kani::any(), kani::any());
    let judged = step(side, from, to);
    kani::cover!(judged.is_ok(), "some step is legal");
    assert!(judged.ok() == step_of(side, from, to));
}

#[kani::proof]
fn a_step_that_is_refused_breaks_the_rule_it_is_refused_for() {
    let (side, from, to): (_, u32, u32) = (any_side(), kani::any(), kani::any());
    let named = match step(side, from, to) {
        Ok(_) => return,
        Err(StepFault::UnknownFrom(word)) => word == from && !is_named(from),
        Err(StepFault::UnknownTo(word)) => word == to && is_named(from) && !is_named(to),
        Err(StepFault::NotYours(state)) => state.word() == from && state.mover() != side,
        Err(StepFault::NoStep(left, entered)) => {
            (left.word(), entered.word()) == (from, to) && left.mover() == side
        }
    };
    assert!(named);
}

/// A word has one writer at a time: no state may be left by both sides.
#[kani::proof]
fn no_state_is_left_by_both_sides() {
    let from = kani::any();
    let left_by = |side| step(side, from, kani::any()).is_ok();
    assert!(!(left_by(Side::Device) && left_by(Side::Host)));
}

#[kani::proof]
fn a_state_has_one_word() {
    let word = kani::any();
    let state = State::from_word(word);
    assert!(state.is_some() == is_named(word));
    if let Some(state) = state {
        assert!(state.word() == word);
        assert!(state.is_outcome() == matches!(word, OK | ERROR));
    }
}

#[kani::proof]
fn what_is_observed_is_what_the_table_says() {
    let (owed, word): (bool, u32) = (kani::any(), kani::any());
    let expected = match (owed, word) {
        (true, PUBLISHED | CLAIMED) => Observation::Owed,
        (true, _) => Observation::Fault(PeerFault::Overwritten(word)),
        (false, PUBLISHED) => Observation::Request,
        (false, CLAIMED) => Observation::Fault(PeerFault::ForgedClaim),
        (false, EMPTY | OK | ERROR) => Observation::Idle,
        (false, _) => Observation::Fault(PeerFault::UnknownStatus(word)),
    };
    assert!(observe(owed, word) == expected);
}

/// `observe` and `step` agree: the host may claim what it takes for a request.
#[kani::proof]
fn a_request_is_what_the_host_may_claim() {
    let word = kani::any();
    let request = observe(false, word) == Observation::Request;
    assert!(request == (step(Side::Host, word, CLAIMED) == Ok(Step::Announce)));
}

/// The host may complete an owed slot if and only if it finds no fault in it.
#[kani::proof]
fn what_is_owed_is_what_the_host_may_complete() {
    let word = kani::any();
    let owed = observe(true, word) == Observation::Owed;
    assert!(owed == (step(Side::Host, word, OK) == Ok(Step::CompleteOk)));
    assert!(owed == (step(Side::Host, word, ERROR) == Ok(Step::CompleteError)));
}

#[kani::proof]
fn what_is_in_order_has_no_fault() {
    let word = kani::any();
    let fault = matches!(observe(false, word), Observation::Fault(_));
    assert!(is_in_order(word) == !fault);
}

/// Eight statuses are judged at once as each would be alone, if all of them are in order. Whether they are is
/// tested on the bits of all of them.
#[kani::proof]
fn eight_statuses_at_once_are_judged_as_each_alone() {
    let statuses: [u32; 8] = kani::any();
    let (mut bytes, mut together, mut alone) = (0_u64, 0, 0_u64);
    let mut each_in_order = true;
    for slot in 0..8 {
        let status = statuses[slot];
        bytes |= u64::from(status) << (8 * slot);
        together |= status;
        alone |= u64::from(status == PUBLISHED) << slot;
        each_in_order &= is_in_order(status);
    }
    assert!(is_in_order(together) == each_in_order);
    if each_in_order {
        kani::cover!(alone == 0xff, "all of them are requests");
        assert!(published_in(bytes) == alone);
    }
}
