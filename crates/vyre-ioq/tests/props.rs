//! Properties of the state transitions of a slot. `PROPTEST_CASES` sets how many cases each gets.

#![cfg(feature = "std")]

mod common;
mod model;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm};
use vyre_ioq::abi::SlotImage;
use vyre_ioq::state::{Observation, PeerFault, Side, State, Step, StepFault, observe, step};
use vyre_ioq::{DecodeError, Errno, Flags, Op, Request};

use model::{Action, CLAIMED, EMPTY, ERROR, OK, PUBLISHED, Pick, World};

const NAMED: [u32; 5] = [EMPTY, PUBLISHED, CLAIMED, OK, ERROR];

/// Every legal change by side and status word, written from the protocol and not from the source.
const LEGAL: [(Side, u32, u32, Step); 10] = [
    (Side::Device, EMPTY, PUBLISHED, Step::Publish),
    (Side::Device, OK, PUBLISHED, Step::Publish),
    (Side::Device, ERROR, PUBLISHED, Step::Publish),
    (Side::Host, PUBLISHED, CLAIMED, Step::Announce),
    (Side::Host, PUBLISHED, OK, Step::CompleteOk),
    (Side::Host, PUBLISHED, ERROR, Step::CompleteError),
    (Side::Host, CLAIMED, OK, Step::CompleteOk),
    (Side::Host, CLAIMED, ERROR, Step::CompleteError),
    (Side::Device, OK, EMPTY, Step::Recycle),
    (Side::Device, ERROR, EMPTY, Step::Recycle),
];

fn config() -> Config {
    let mut config = Config {
        // The default spends most of an unoptimised run on its ChaCha rounds.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    };
    if cfg!(miri) {
        config.cases = 4;
        config.failure_persistence = None; // Miri lends no file system.
    } else {
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/props.regressions");
        config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct(kept)));
    }
    config
}

fn state(word: u32) -> State {
    State::from_word(word).expect("one of the five")
}

fn check_step(side: Side, from: u32, to: u32) {
    let row = LEGAL
        .iter()
        .find(|row| (row.0, row.1, row.2) == (side, from, to));
    let leaves = LEGAL.iter().any(|row| (row.0, row.1) == (side, from));
    let expected = match row {
        Some(row) => Ok(row.3),
        None if !NAMED.contains(&from) => Err(StepFault::UnknownFrom(from)),
        None if !NAMED.contains(&to) => Err(StepFault::UnknownTo(to)),
        None if !leaves => Err(StepFault::NotYours(state(from))),
        None => Err(StepFault::NoStep(state(from), state(to))),
    };
    assert_eq!(step(side, from, to), expected, "{side:?} {from:#x} {to:#x}");
}

fn check_observe(owed: bool, word: u32) {
    let expected = match word {
        PUBLISHED | CLAIMED if owed => Observation::Owed,
        _ if owed => Observation::Fault(PeerFault::Overwritten(word)),
        PUBLISHED => Observation::Request,
        CLAIMED => Observation::Fault(PeerFault::ForgedClaim),
        EMPTY | OK | ERROR => Observation::Idle,
        _ => Observation::Fault(PeerFault::UnknownStatus(word)),
    };
    assert_eq!(observe(owed, word), expected, "owed {owed}, {word:#x}");
}

#[test]
fn every_small_word_and_every_single_bit_is_judged_as_the_table_says() {
    let small = if cfg!(miri) { 0x20 } else { 0x1_0000 };
    let bits = (0..32).flat_map(|bit| [1 << bit, !(1 << bit), OK | 1 << bit, ERROR | 1 << bit]);
    for word in (0..small).chain(bits) {
        for side in [Side::Device, Side::Host] {
            for named in NAMED {
                check_step(side, word, named);
                check_step(side, named, word);
            }
        }
        check_observe(true, word);
        check_observe(false, word);
        let named = NAMED.contains(&word);
        assert_eq!(
            State::from_word(word).map(State::word),
            named.then_some(word)
        );
    }
}

/// Rule: ABI-4.1.
#[test]
fn each_state_is_left_by_its_mover_alone() {
    for state in State::ALL {
        let movers: Vec<Side> = [Side::Device, Side::Host]
            .into_iter()
            .filter(|&side| NAMED.iter().any(|&to| step(side, state.word(), to).is_ok()))
            .collect();
        assert_eq!(movers, [state.mover()], "{state:?}");
        assert_eq!(state.is_outcome(), [OK, ERROR].contains(&state.word()));
    }
}

/// Draws a status word, a word close to one, or any word.
fn status_word() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => proptest::sample::select(&NAMED[..]),
        1 => 0..0x20u32,
        1 => any::<u32>(),
    ]
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Device), Just(Side::Host)]
}

fn result() -> impl Strategy<Value = Result<u32, Errno>> {
    prop_oneof![
        any::<u32>().prop_map(Ok),
        any::<u32>().prop_map(|raw| Err(Errno::from_raw(raw))),
    ]
}

/// Draws low slots more often, so that several actions meet in one slot.
fn slot() -> impl Strategy<Value = Pick> {
    prop_oneof![3 => 0..4u16, 1 => any::<u16>()]
}

fn range() -> impl Strategy<Value = std::ops::Range<u32>> {
    prop_oneof![
        3 => Just(0..u32::MAX),
        2 => (0..140u32, 0..140u32).prop_map(|(start, end)| start..end),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(start, end)| start..end),
    ]
}

fn any_slot() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..6u32, 2 => 0..140u32, 1 => any::<u32>()]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Reserve),
        1 => any::<Pick>().prop_map(Action::Unreserve),
        6 => (any::<Pick>(), any::<u64>()).prop_map(|(pick, seed)| Action::Publish(pick, seed)),
        2 => any::<Pick>().prop_map(Action::Poll),
        4 => any::<Pick>().prop_map(Action::Take),
        2 => any::<Pick>().prop_map(Action::Abandon),
        3 => (slot(), status_word()).prop_map(|(slot, value)| Action::Store(slot, 6, value)),
        1 => (slot(), 0..16usize, any::<u32>())
            .prop_map(|(slot, word, value)| Action::Store(slot, word, value)),
        1 => (0..16usize, any::<u32>()).prop_map(|(word, value)| Action::StoreHeader(word, value)),
        6 => range().prop_map(Action::Claim),
        2 => Just(Action::Announce),
        2 => Just(Action::AnnounceLasting),
        5 => (any::<Pick>(), result()).prop_map(|(pick, result)| Action::Complete(pick, result)),
        2 => (any_slot(), result()).prop_map(|(slot, result)| Action::CompleteAny(slot, result)),
        1 => ([any_slot(), any_slot()], result())
            .prop_map(|(slots, result)| Action::CompleteBatch(slots, result)),
        1 => any::<u32>().prop_map(|raw| Action::CompleteOwed(Errno::from_raw(raw))),
        1 => Just(Action::Published),
    ]
}

/// Draws a number of slots and whether the queue is bare. Small queues are more likely to become full.
fn geometry() -> impl Strategy<Value = (u32, bool)> {
    let (most, most_bare): (u32, u32) = if cfg!(miri) { (2, 2) } else { (130, 64) };
    prop_oneof![
        (1..=most.min(4), any::<bool>()),
        (1..=most, Just(false)),
        (1..=most_bare, Just(true)),
    ]
}

proptest! {
    #![proptest_config(config())]

    /// Rule: ABI-4.1.
    #[test]
    fn step_is_total_and_agrees_with_the_table(side in side(), from in status_word(), to in status_word()) {
        check_step(side, from, to);
    }

    /// Rule: ABI-4.15.
    #[test]
    fn observe_is_total_and_agrees_with_the_table(owed: bool, word in status_word()) {
        check_observe(owed, word);
    }

    /// Rules: ABI-1.6, SEC-4.
    #[test]
    fn whatever_a_device_does_the_host_keeps_to_the_model(
        (slots, bare) in geometry(),
        actions in prop::collection::vec(action(), 1..if cfg!(miri) { 24 } else { 120 }),
    ) {
        let mut world = World::new(slots, bare);
        for action in &actions {
            world.act(action);
        }
        world.finish();
    }

    /// Rule: ABI-4.11.
    #[test]
    fn an_honest_device_loses_nothing_and_causes_no_fault(
        (slots, bare) in geometry(),
        actions in prop::collection::vec(
            action().prop_filter("honest", |action| !matches!(action, Action::Store(..))),
            1..if cfg!(miri) { 24 } else { 120 },
        ),
    ) {
        let mut world = World::new(slots, bare);
        for action in &actions {
            world.act(action);
        }
        prop_assert_eq!(world.model.faults, model::Faults::default());
        world.finish();
    }

    /// Rules: ABI-2.7, ABI-6.21.
    #[test]
    fn every_image_is_judged_and_a_good_one_says_the_same_again(
        mut words: [u32; 16],
        op in prop_oneof![4 => 0..9u32, 1 => any::<u32>()],
        flags in prop_oneof![4 => 0..5u32, 1 => any::<u32>()],
        reserved in prop::array::uniform4(prop_oneof![7 => Just(0), 1 => any::<u32>()]),
    ) {
        (words[0], words[10]) = (op, flags);
        words[12..].copy_from_slice(&reserved);
        let known = match words[0] {
            1 => 2,
            2 => 3,
            3..=6 => 0,
            _ => u32::MAX,
        };
        let image: SlotImage = bytemuck::cast(words);
        let verdict = Request::decode(&image);
        let expected = match verdict {
            Err(DecodeError::UnknownOp(op)) => op == words[0] && known == u32::MAX,
            Err(DecodeError::UnknownFlag(flags)) => flags == words[10] && flags > 3,
            Err(DecodeError::ForeignFlag(op, flags)) => {
                op.word() == words[0] && flags.bits() == words[10] && words[10] & !known != 0
            }
            Err(DecodeError::ReservedNotZero(reserved)) => {
                reserved == words[12..] && reserved != [0; 4]
            }
            Err(_) => false,
            Ok(request) => {
                words[6] = PUBLISHED;
                known != u32::MAX && words[10] & !known == 0 && model::words_of(&request) == words
            }
        };
        prop_assert!(expected, "{:?}", verdict);
        if let Err(error) = verdict {
            prop_assert_eq!(error.errno(), Errno::EINVAL);
        }
    }
}

/// Rule: ABI-6.21.
#[test]
fn flags_belong_to_operations() {
    assert_eq!(Op::Read.flags(), Flags::EXACT);
    assert_eq!(Op::Write.flags(), Flags::EXACT | Flags::DURABLE);
    for op in [Op::Fence, Op::Sync, Op::Prefetch, Op::Map] {
        assert_eq!(op.flags(), Flags::empty());
    }
}

/// State of the device for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    Nothing,
    Reservation,
    Ticket,
}

/// State of a slot before an action: its status word, whether the host owes it an outcome, and what the device
/// holds for it.
type SlotCase = (&'static str, bool, Hold);

/// Returns queues of two slots, whose first slot is in each possible state. The second is free: a sweep over
/// both must load its status and leave the first alone if that is owed an outcome.
fn slot_cases() -> Vec<(SlotCase, impl Fn(bool) -> World)> {
    let words = [
        ("EMPTY", EMPTY, 0),
        ("PUBLISHED", PUBLISHED, 1),
        ("PUBLISHED, a fence", PUBLISHED, 3),
        ("CLAIMED", CLAIMED, 0),
        ("OK", OK, 0),
        ("ERROR", ERROR, 0),
        ("unknown", 0x77, 0),
    ];
    let holds = [Hold::Nothing, Hold::Reservation, Hold::Ticket];
    let ends = [false, true].map(|owed| holds.map(|hold| (owed, hold)));
    words
        .into_iter()
        .flat_map(|word| ends.into_iter().flatten().map(move |ends| (word, ends)))
        .map(|((name, status, op), (owed, hold))| {
            let case = (name, owed, hold);
            let make = move |bare| {
                let mut world = World::new(2, bare);
                if hold != Hold::Nothing {
                    world.act(&Action::Reserve);
                }
                if hold == Hold::Ticket {
                    world.act(&Action::Publish(0, 0));
                }
                if owed {
                    world.act(&Action::Store(0, 6, PUBLISHED));
                    world.act(&Action::Claim(0..1));
                }
                world.act(&Action::Store(0, 0, op));
                world.act(&Action::Store(0, 6, status));
                assert_eq!(world.model.owed.contains_key(&0), owed);
                assert_eq!(world.model.locked.contains(&0), hold != Hold::Nothing);
                assert_eq!(world.model.status(0), status);
                world
            };
            (case, make)
        })
        .collect()
}

/// Returns every action with its name. Actions of a device that holds no slot have no effect.
fn every_action() -> Vec<(&'static str, Action)> {
    let (ok, error) = (Ok(9), Err(Errno::EIO));
    let mut actions = vec![
        ("reserve", Action::Reserve),
        ("unreserve", Action::Unreserve(0)),
        ("publish", Action::Publish(0, 0)),
        ("publish a fence", Action::Publish(0, 2)),
        ("poll", Action::Poll(0)),
        ("take", Action::Take(0)),
        ("abandon", Action::Abandon(0)),
        ("store in line 2", Action::StoreHeader(0, 1)),
        ("claim one", Action::Claim(0..1)),
        ("claim all", Action::Claim(0..2)),
        ("claim past the end", Action::Claim(2..9)),
        ("tell of the claims", Action::Announce),
        ("complete, OK", Action::CompleteAny(0, ok)),
        ("complete, ERROR", Action::CompleteAny(0, error)),
        ("complete past the end", Action::CompleteAny(2, ok)),
        ("complete batch, twice", Action::CompleteBatch([0, 0], ok)),
        (
            "complete what is owed",
            Action::CompleteOwed(Errno::ECANCELED),
        ),
        ("look", Action::Published),
    ];
    for (name, word) in [
        ("store EMPTY", EMPTY),
        ("store PUBLISHED", PUBLISHED),
        ("store CLAIMED", CLAIMED),
        ("store OK", OK),
        ("store ERROR", ERROR),
        ("store unknown", 0x78),
    ] {
        actions.push((name, Action::Store(0, 6, word)));
    }
    actions.extend((0..16).map(|word| ("store any word", Action::Store(0, word, !0))));
    actions
}

/// Makes two actions from every state and checks each against the model. The second shows what the first left
/// behind, such as a fault that is counted twice or a slot that can no longer be claimed.
#[test]
#[cfg_attr(miri, ignore = "tens of thousands of queues")]
fn every_state_meets_every_action() {
    let mut met = std::collections::BTreeMap::<(SlotCase, &str), u32>::new();
    let mut seconds = every_action();
    seconds.retain(|(name, _)| *name != "store any word");
    for bare in [false, true] {
        for (case, make) in slot_cases() {
            for (name, action) in every_action() {
                for (_, second) in &seconds {
                    let mut world = make(bare);
                    world.act(&action);
                    world.act(second);
                    world.finish();
                    *met.entry((case, name)).or_default() += 1;
                }
            }
        }
    }
    let names: std::collections::BTreeSet<_> = every_action().iter().map(|it| it.0).collect();
    for (case, _) in slot_cases() {
        for name in &names {
            let count = met.get(&(case, *name)).copied().unwrap_or(0);
            assert!(count > 0, "{case:?} never met {name}");
        }
    }
    println!(
        "{} places of a slot met {} actions: {} pairs, {} runs",
        met.len() / names.len(),
        names.len(),
        met.len(),
        met.values().sum::<u32>()
    );
}
