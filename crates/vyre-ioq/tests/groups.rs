//! Groups of slots: the host sweeps the groups that the device has marked, and no others.

#![cfg(feature = "std")]

mod common;

use common::{Memory, WORD, claim};
use vyre_ioq::abi::{
    GROUP_SLOTS, HEADER_BYTES, MAX_SLOTS, SLOT_BYTES, header_word, op, status, word,
};
use vyre_ioq::{DeviceQueue, HostQueue, QueueLayout, Request};

/// Number of slots of a large queue.
const MANY: u32 = if cfg!(miri) {
    4 * GROUP_SLOTS
} else {
    MAX_SLOTS
};

fn memory(slots: u32) -> (Memory, HostQueue) {
    let layout = QueueLayout::with_slots(slots);
    let memory = Memory::new(layout.bytes());
    let host = HostQueue::create(memory.region(), &layout).expect("fits");
    (memory, host)
}

fn store_status(memory: &Memory, slot: u32, value: u32) {
    let first = (HEADER_BYTES + slot as usize * SLOT_BYTES) / WORD;
    memory.store(first + word::STATUS, value);
}

fn marks(memory: &Memory) -> Vec<u32> {
    (1..MAX_SLOTS / GROUP_SLOTS)
        .filter(|&group| memory.load(header_word::IN_USE + group as usize) != 0)
        .collect()
}

/// Rule: ABI-4.18.
#[test]
fn a_group_is_marked_before_its_first_slot_is_handed_out() {
    let (memory, _host) = memory(4 * GROUP_SLOTS);
    let device = DeviceQueue::attach(memory.region()).expect("a queue");
    let mut reservations = Vec::new();
    for slot in 0..4 * GROUP_SLOTS {
        reservations.push(device.reserve().expect("a free slot"));
        let groups: Vec<u32> = (1..=slot / GROUP_SLOTS).collect();
        assert_eq!(marks(&memory), groups, "slot {slot}");
    }
}

/// Rules: ABI-4.17, ABI-4.20.
#[test]
fn a_group_without_a_mark_is_left_alone_and_one_with_any_mark_is_served() {
    let (memory, mut host) = memory(MANY);
    for group in 1..MANY / GROUP_SLOTS {
        let slot = group * GROUP_SLOTS + group;
        store_status(&memory, slot, status::PUBLISHED);
        assert_eq!(claim(&mut host), [], "no mark");
        assert_eq!(host.published().count(), 0, "no mark");
        let mark = if group % 2 == 0 {
            1
        } else {
            u32::MAX << group.min(31)
        };
        memory.store(header_word::IN_USE + group as usize, mark);
        assert_eq!(host.published().collect::<Vec<_>>(), [slot]);
        assert_eq!(claim(&mut host), [slot]);
        host.complete(slot, Ok(0)).expect("owed");
    }
}

/// Rule: ABI-4.20.
#[test]
fn a_mark_cannot_be_taken_back() {
    let (memory, mut host) = memory(2 * GROUP_SLOTS);
    memory.store(header_word::IN_USE + 1, 1);
    assert_eq!(claim(&mut host), []);
    memory.store(header_word::IN_USE + 1, 0);
    store_status(&memory, GROUP_SLOTS, status::PUBLISHED);
    assert_eq!(claim(&mut host), [GROUP_SLOTS]);
}

#[test]
fn marks_of_groups_that_the_queue_does_not_have_mean_nothing() {
    let (memory, mut host) = memory(GROUP_SLOTS + 1);
    for group in 0..MAX_SLOTS / GROUP_SLOTS {
        memory.store(header_word::IN_USE + group as usize, u32::MAX);
    }
    store_status(&memory, GROUP_SLOTS, status::PUBLISHED);
    assert_eq!(claim(&mut host), [GROUP_SLOTS]);
}

/// Rule: ABI-4.17.
#[test]
fn the_first_group_needs_no_mark() {
    let (memory, mut host) = memory(MANY);
    store_status(&memory, GROUP_SLOTS - 1, status::PUBLISHED);
    assert_eq!(claim(&mut host), [GROUP_SLOTS - 1]);
}

/// Rules: ABI-4.18, ABI-7.17.
#[test]
fn a_second_device_end_marks_anew_and_a_new_queue_has_no_marks() {
    let (memory, _host) = memory(2 * GROUP_SLOTS);
    let fill = |device: &DeviceQueue| {
        (0..2 * GROUP_SLOTS)
            .map(|_| device.submit(Request::fence()).expect("a free slot"))
            .collect::<Vec<_>>()
    };
    let _tickets = fill(&DeviceQueue::attach(memory.region()).expect("a queue"));
    let layout = QueueLayout::with_slots(2 * GROUP_SLOTS);
    let mut host = HostQueue::create(memory.region(), &layout).expect("fits");
    assert_eq!(marks(&memory), []);
    let _more = fill(&DeviceQueue::attach(memory.region()).expect("a queue"));
    assert_eq!(marks(&memory), [1]);
    assert_eq!(claim(&mut host).len(), 2 * GROUP_SLOTS as usize);
}

/// The sink stores in slots that the host has already swept, as a device could have done just after the sweep.
///
/// Rule: ABI-4.21.
#[test]
fn a_fence_brings_what_came_before_it_in_a_group_whose_mark_came_late() {
    for op in [op::FENCE, op::SYNC] {
        let (memory, mut host) = memory(3 * GROUP_SLOTS);
        let device = DeviceQueue::attach(memory.region()).expect("a queue");
        let _ticket = device.submit(Request::fence()).expect("free");
        memory.store(HEADER_BYTES / WORD + word::OP, op);
        let mut slots = Vec::new();
        host.claim_published(0..u32::MAX, |claim| {
            if slots.is_empty() {
                memory.store(header_word::IN_USE + 2, 1);
                store_status(&memory, 2 * GROUP_SLOTS, status::PUBLISHED);
            }
            slots.push(claim.slot);
        });
        assert_eq!(slots, [0, 2 * GROUP_SLOTS]);
    }
}
