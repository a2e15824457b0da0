//! Both ends, step by step, and stores of any word anywhere: nothing is claimed twice, and what is
//! claimed can be completed exactly once.
#![no_main]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use vyre_ioq::{Errno, Queue, QueueLayout, Region, Request};

const SLOTS: u32 = 8;

#[derive(Arbitrary, Debug)]
enum Step {
    Submit { tag: u32, fence: bool },
    Take { which: u8 },
    Sweep { from: u8, to: u8 },
    Complete { slot: u8, ok: bool },
    Hostile { word: u16, value: u32 },
    CompleteOwed,
}

#[repr(C, align(4096))]
struct Memory([AtomicU32; 1024 + 16 * SLOTS as usize]);

fuzz_target!(|steps: Vec<Step>| {
    let memory = Memory([const { AtomicU32::new(0) }; 1024 + 16 * SLOTS as usize]);
    let base = NonNull::from(&memory).cast::<u8>();
    // SAFETY: `memory` outlives the queues below, and is only accessed as atomic words.
    let region = unsafe { Region::from_raw_parts(base, size_of::<Memory>()) }.expect("aligned");
    let (mut host, device) =
        Queue::in_region(region, QueueLayout::with_slots(SLOTS)).expect("it fits");
    let mut owed = [false; SLOTS as usize];
    let mut tickets = Vec::new();
    for step in steps {
        match step {
            Step::Submit { tag, fence } => {
                let request = if fence {
                    Request::fence()
                } else {
                    Request::sync(vyre_ioq::FileHandle::from_raw(tag))
                };
                tickets.extend(device.submit(request.tag(tag)));
            }
            Step::Take { which } if !tickets.is_empty() => {
                let ticket = tickets.swap_remove(usize::from(which) % tickets.len());
                tickets.extend(device.take(ticket).err());
            }
            Step::Take { .. } => {}
            Step::Sweep { from, to } => {
                host.claim_published(from.into()..to.into(), |claim| {
                    let owed = &mut owed[claim.slot as usize];
                    assert!(!*owed, "slot {} was claimed twice", claim.slot);
                    *owed = true;
                });
            }
            Step::Complete { slot, ok } => {
                let result = if ok { Ok(1) } else { Err(Errno::EIO) };
                let expected = owed.get(usize::from(slot)).is_some_and(|&owed| owed);
                assert_eq!(host.complete(slot.into(), result).is_ok(), expected);
                if expected {
                    owed[usize::from(slot)] = false;
                }
            }
            Step::Hostile { word, value } => {
                let word = usize::from(word) % memory.0.len();
                memory.0[word].store(value, Ordering::Relaxed);
            }
            Step::CompleteOwed => {
                let expected = owed.iter().filter(|&&owed| owed).count() as u32;
                assert_eq!(host.complete_owed(Errno::ECANCELED), expected);
                owed = [false; SLOTS as usize];
            }
        }
        assert_eq!(
            host.in_flight() as usize,
            owed.iter().filter(|&&owed| owed).count()
        );
    }
});
