use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SLOTS: u32 = 8;

fn set(slots: impl IntoIterator<Item = u32>, timed: bool) -> FenceSet {
    let mut set = FenceSet::default();
    for slot in slots {
        set.fences.insert(slot);
        if timed {
            set.timed.insert(slot);
        }
    }
    set
}

/// Defers fences, and ends the round that covers them.
fn fence(barriers: &mut Barriers, slots: &[u32]) {
    for &slot in slots {
        barriers.set_deadline(slot, u64::from(slot) + 1);
    }
    barriers.defer_fences(set(slots.iter().copied(), true));
    barriers.begin_round();
    barriers.end_round(|slot, expires| assert_eq!(expires, u64::from(slot) + 1));
}

fn all_due(barriers: &mut Barriers) -> Vec<u32> {
    let sets = std::iter::from_fn(|| barriers.pop_due());
    sets.flat_map(|set| set.fences).collect()
}

#[test]
fn a_fence_waits_for_what_came_before_and_for_nothing_later() {
    let mut barriers = Barriers::new(SLOTS);
    let early = barriers.admit();
    fence(&mut barriers, &[1]);
    let late = barriers.admit();
    assert_eq!(all_due(&mut barriers), []);
    barriers.complete(early);
    let due = all_due(&mut barriers);
    assert_eq!(due, [1], "the late one is still outstanding");
    barriers.complete(late);
    assert_eq!(all_due(&mut barriers), []);
}

#[test]
fn fences_are_due_in_order() {
    let mut barriers = Barriers::new(SLOTS);
    let first = barriers.admit();
    fence(&mut barriers, &[1]);
    let second = barriers.admit();
    fence(&mut barriers, &[2]);
    barriers.complete(second);
    let due = all_due(&mut barriers);
    assert_eq!(due, [], "the older epoch holds both");
    barriers.complete(first);
    assert_eq!(all_due(&mut barriers), [1, 2]);
}

#[test]
fn a_removed_fence_leaves_the_others_in_place() {
    for together in [false, true] {
        for removed in [1, 2, 3] {
            let mut barriers = Barriers::new(SLOTS);
            let epoch = barriers.admit();
            if together {
                fence(&mut barriers, &[1, 2, 3]);
            } else {
                barriers.begin_round();
                for slot in [1, 2, 3] {
                    barriers.defer_fences(set([slot], true));
                }
                barriers.begin_round();
                barriers.end_round(|_, _| {});
            }
            assert!(barriers.remove(removed));
            assert!(!barriers.remove(removed), "it is gone");
            barriers.complete(epoch);
            let mut due = all_due(&mut barriers);
            due.sort_unstable();
            let rest: Vec<u32> = [1, 2, 3].into_iter().filter(|&s| s != removed).collect();
            assert_eq!(due, rest);
        }
    }
}

#[test]
fn epochs_do_not_pile_up() {
    let mut barriers = Barriers::new(4);
    for _ in 0..1000 {
        let admitted = [0, 1, 2].map(|slot| {
            let epoch = barriers.admit();
            fence(&mut barriers, &[slot]);
            epoch
        });
        for epoch in admitted {
            barriers.complete(epoch);
        }
        assert_eq!(all_due(&mut barriers), [0, 1, 2]);
        assert_eq!(barriers.epochs.count(), 1);
    }
}

#[test]
fn epochs_without_a_fence_end_wherever_they_are() {
    let mut barriers = Barriers::new(4);
    let for_ever = barriers.admit();
    fence(&mut barriers, &[3]);
    for _ in 0..1000 {
        let early = barriers.admit();
        fence(&mut barriers, &[0]);
        let late = barriers.admit();
        assert!(barriers.remove(0));
        barriers.complete(early);
        barriers.complete(late);
        assert_eq!(barriers.epochs.count(), 2);
    }
    barriers.complete(for_ever);
    assert_eq!(all_due(&mut barriers), [3]);
    assert_eq!(barriers.epochs.count(), 1);
}

#[test]
fn a_fence_that_a_round_found_is_not_covered_by_it() {
    let mut barriers = Barriers::new(SLOTS);
    barriers.begin_round();
    barriers.defer_fences(set([1], false));
    barriers.pass(SLOTS);
    barriers.end_round(|_, _| {});
    assert!(barriers.has_deferred() && !barriers.has_due());
    barriers.begin_round();
    barriers.pass(1);
    assert!(!barriers.has_due(), "the round has not passed its slot");
    barriers.pass(2);
    assert_eq!(all_due(&mut barriers), [1]);
    assert!(!barriers.has_deferred());
}

/// Expected contents of the tracker, in plain lists.
#[derive(Default)]
struct Model {
    found: Vec<u32>,
    earlier: Vec<u32>,
    /// Requests and fences in the order of their admission.
    admitted: Vec<Admitted>,
}

#[derive(Debug, PartialEq)]
enum Admitted {
    Request(u32),
    Fence(u32),
}

impl Model {
    fn holds(&self, slot: u32) -> bool {
        let in_epoch =
            |it: &Admitted| matches!(it, Admitted::Request(s) | Admitted::Fence(s) if *s == slot);
        self.found.contains(&slot)
            || self.earlier.contains(&slot)
            || self.admitted.iter().any(in_epoch)
    }

    fn take_due(&mut self) -> BTreeSet<u32> {
        let is_request = |it: &Admitted| matches!(it, Admitted::Request(_));
        let first = self.admitted.iter().position(is_request);
        let due = self.admitted.drain(..first.unwrap_or(self.admitted.len()));
        due.map(|it| match it {
            Admitted::Fence(slot) | Admitted::Request(slot) => slot,
        })
        .collect()
    }
}

proptest! {
    /// Fences are due exactly when all that was admitted before they were covered has completed.
    #[test]
    fn the_tracker_is_what_plain_lists_would_be(
        steps in prop::collection::vec((0..5_u8, 0..SLOTS), 0..200),
    ) {
        let mut barriers = Barriers::new(SLOTS);
        let mut model = Model::default();
        let mut epochs = [0; SLOTS as usize];
        for (step, slot) in steps {
            match step {
                0 if !model.holds(slot) => {
                    epochs[slot as usize] = barriers.admit();
                    model.admitted.push(Admitted::Request(slot));
                }
                1 if !model.holds(slot) => {
                    barriers.set_deadline(slot, 1);
                    barriers.defer_fences(set([slot], true));
                    model.found.push(slot);
                }
                2 => {
                    barriers.begin_round();
                    model.earlier.append(&mut model.found);
                    barriers.end_round(|_, _| {});
                    model.admitted.extend(model.earlier.drain(..).map(Admitted::Fence));
                }
                3 => {
                    let at = model.admitted.iter().position(|it| *it == Admitted::Request(slot));
                    if let Some(at) = at {
                        barriers.complete(epochs[slot as usize]);
                        model.admitted.remove(at);
                    }
                }
                _ => {
                    let at = model.admitted.iter().position(|it| *it == Admitted::Fence(slot));
                    prop_assert_eq!(barriers.remove(slot), at.is_some());
                    if let Some(at) = at {
                        model.admitted.remove(at);
                    }
                }
            }
            let due: BTreeSet<u32> = all_due(&mut barriers).into_iter().collect();
            prop_assert_eq!(due, model.take_due());
            let fences: BTreeSet<u32> = barriers.fences().collect();
            let in_epochs = model.admitted.iter().filter_map(|it| match it {
                Admitted::Fence(slot) => Some(*slot),
                Admitted::Request(_) => None,
            });
            prop_assert_eq!(fences, in_epochs.chain(model.found.iter().copied()).collect());
        }
    }
}
