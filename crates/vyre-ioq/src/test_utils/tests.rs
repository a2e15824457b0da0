use core::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

use super::*;
use crate::abi::{header_word, status, word};
use crate::state::{self, Side, Step};
use crate::{AttachError, Errno, HostQueue, QueueLayout, Request};

const WORD: usize = 4;
const STEPS: u32 = if cfg!(miri) { 60 } else { 5_000 };
const ROUNDS: u32 = if cfg!(miri) { 40 } else { 1_000 };

fn words(memory: &GuardedMemory) -> Vec<u32> {
    (0..memory.len() / WORD)
        .map(|word| memory.load(word, Relaxed))
        .collect()
}

fn layouts() -> [QueueLayout; 3] {
    [
        QueueLayout::with_slots(66),
        QueueLayout::with_slots(1),
        QueueLayout::bare(5),
    ]
}

/// A queue, its host and a hostile device of it.
fn hostile(layout: &QueueLayout, seed: u64) -> (GuardedMemory, HostQueue, Adversary) {
    let memory = GuardedMemory::new(layout.bytes()).expect("memory");
    let host = HostQueue::create(memory.region(), layout).expect("fit");
    let device = Adversary::new(memory.region(), layout, seed).expect("fit");
    (memory, host, device)
}

#[test]
fn equal_seeds_store_equal_words() {
    for layout in layouts() {
        let after = |seed| {
            let (memory, mut host, mut device) = hostile(&layout, seed);
            let mut did = Vec::new();
            for _ in 0..ROUNDS {
                did.push(device.step());
                host.claim_published(0..u32::MAX, drop);
                did.push(device.step());
                host.complete_owed(Errno::EIO);
            }
            (words(&memory), did, device.words())
        };
        assert_eq!(after(1), after(1));
        assert_ne!(after(1), after(2));
    }
}

#[test]
fn every_attack_comes_and_every_word_is_hit() {
    for layout in layouts() {
        let (memory, mut host, mut device) = hostile(&layout, 3);
        let before = words(&memory);
        let mut hit: Vec<bool> = before.iter().map(|_| false).collect();
        for step in 0..STEPS * if cfg!(miri) { 5 } else { 24 } {
            device.step();
            if step % 4 == 0 {
                host.complete_owed(Errno::EIO);
                host.claim_published(0..u32::MAX, drop);
            }
            if step % 32 == 0 && !cfg!(miri) {
                let now = words(&memory);
                hit.iter_mut()
                    .zip(now.iter().zip(&before))
                    .for_each(|(hit, (now, before))| {
                        *hit |= now != before;
                    });
            }
        }
        for &attack in Attack::ALL {
            assert!(device.count(attack) > 0, "{attack:?} never came");
        }
        if !cfg!(miri) {
            let used = if layout == QueueLayout::bare(5) {
                0
            } else {
                header_word::END
            };
            let missed: Vec<_> = (0..hit.len())
                .filter(|&word| !hit[word] && (word < used || word >= 1024 || used == 0))
                .collect();
            assert!(missed.is_empty(), "never stored to: {missed:?}");
        }
        assert!(memory.is_intact());
    }
}

#[test]
fn a_well_formed_device_takes_legal_steps_alone() {
    for layout in layouts() {
        let (memory, mut host, device) = hostile(&layout, 4);
        let mut device = device.weights(Weights::well_formed());
        let slots = host.geometry().slots();
        let stride = host.geometry().stride() / WORD;
        let status = |slot| {
            let first = memory.len() / WORD - slots as usize * stride;
            memory.load(first + slot as usize * stride + word::STATUS, Relaxed)
        };
        let mut published = 0;
        for round in 0..ROUNDS {
            let before: Vec<u32> = (0..slots).map(status).collect();
            assert_eq!(device.step(), Attack::BadRequest);
            for (slot, &from) in (0..slots).zip(&before) {
                let to = status(slot);
                if from == to {
                    continue;
                }
                assert_eq!(to, status::PUBLISHED);
                assert_eq!(state::step(Side::Device, from, to), Ok(Step::Publish));
                published += 1;
            }
            if round % 3 == 0 {
                host.claim_published(0..u32::MAX, drop);
                host.complete_owed(Errno::EIO);
            }
        }
        assert!(published > 10, "{published}");
        assert_eq!(host.faults().total(), 0);
    }
}

#[test]
fn requests_are_of_every_kind_and_wrong_in_every_way() {
    let (_memory, mut host, device) = hostile(&QueueLayout::with_slots(64), 5);
    let mut device = device
        .weights(Weights::well_formed())
        .handles([0x1000_0001]);
    let mut seen = std::collections::BTreeMap::<std::string::String, u32>::new();
    for _ in 0..STEPS {
        device.step();
        host.claim_published(0..64, |claim| {
            let verdict = Request::decode(&claim.image);
            let kind = match verdict {
                Ok(request) => std::format!("{:?}", request.op()),
                Err(error) => {
                    let text = std::format!("{error:?}");
                    text.split('(').next().expect("a name").into()
                }
            };
            *seen.entry(kind).or_default() += 1;
        });
        host.complete_owed(Errno::EIO);
    }
    let all = [
        "Fence",
        "ForeignFlag",
        "Map",
        "Prefetch",
        "Read",
        "ReservedNotZero",
        "Sync",
        "UnknownFlag",
        "UnknownOp",
        "Write",
    ];
    if !cfg!(miri) {
        assert_eq!(seen.keys().collect::<Vec<_>>(), all);
    }
    assert!(seen.contains_key("Read"), "{seen:?}");
}

#[test]
fn a_confined_device_leaves_all_else_alone() {
    let layout = QueueLayout::with_slots(8);
    let (memory, _host, device) = hostile(&layout, 6);
    let own = 1024 + 16 * 3..1024 + 16 * 5;
    let before = words(&memory);
    let mut device = device.slots(3..5);
    for _ in 0..STEPS {
        device.step();
    }
    let changed: Vec<usize> = (0..before.len())
        .filter(|&word| memory.load(word, Relaxed) != before[word])
        .collect();
    assert!(changed.len() > 10, "{changed:?}");
    assert!(changed.iter().all(|word| own.contains(word)), "{changed:?}");
}

#[test]
fn what_is_spared_is_never_stored() {
    let layout = QueueLayout::with_slots(8);
    let (memory, _host, device) = hostile(&layout, 7);
    let spared = [7, 9, 0x1007, u32::MAX];
    let mut device = device.sparing(spared).handles(spared);
    for _ in 0..STEPS {
        device.step();
        // The header's constants are the host's own, and no handles.
        let found =
            (1024..memory.len() / WORD).find(|&word| spared.contains(&memory.load(word, Relaxed)));
        assert_eq!(found, None);
    }
}

#[test]
fn a_device_without_weights_is_silent() {
    let (memory, _host, device) = hostile(&QueueLayout::with_slots(8), 8);
    let before = words(&memory);
    let mut device = device.weights(Weights::none());
    for _ in 0..100 {
        assert_eq!(device.step(), Attack::Silence);
    }
    assert_eq!((words(&memory), device.words()), (before, 0));
}

#[test]
fn a_thread_of_its_own_disturbs_a_host_and_comes_back() {
    let layout = QueueLayout::with_slots(64);
    let (memory, mut host, device) = hostile(&layout, 9);
    let thread = device.spawn().expect("a thread");
    let (mut owed, mut claims) = ([false; 64], 0);
    let enough = if cfg!(miri) { 20 } else { 20_000 };
    while claims < enough {
        claims += host.claim_published(0..64, |claim| {
            let twice = std::mem::replace(&mut owed[claim.slot as usize], true);
            assert!(!twice, "slot {} was claimed twice", claim.slot);
        });
        for slot in 0..64 {
            let was_owed = std::mem::take(&mut owed[slot as usize]);
            assert_eq!(host.complete(slot, Ok(0)).is_ok(), was_owed);
        }
        std::thread::yield_now();
    }
    let device = thread.stop();
    assert!(device.words() > 0 && device.steps() > 0);
    let (before, words_then) = (words(&memory), device.words());
    std::thread::yield_now();
    assert_eq!(
        (words(&memory), device.words()),
        (before, words_then),
        "it goes on"
    );
}

#[test]
fn memory_lies_where_it_was_asked_for() {
    let at_end = GuardedMemory::at_end(96).expect("memory");
    assert_eq!(at_end.region().as_ptr().addr() % 4096, 4096 - 96);
    let host = HostQueue::attach_bare(at_end.region()).expect("three slots");
    assert_eq!(host.geometry().slots(), 3);
    assert!(matches!(
        GuardedMemory::at_end(97),
        Err(AttachError::Misaligned { align: 4, .. })
    ));
    let start = GuardedMemory::new(96).expect("memory");
    assert!(start.region().as_ptr().addr().is_multiple_of(4096));
    assert!(matches!(
        start.try_region(64, 33),
        Err(AttachError::TooShort { need: 97, have: 96 })
    ));
    let behind = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| start.load(24, Relaxed)));
    assert!(behind.is_err());
}
