//! Requests that were published before a fence are claimed with it.

use std::sync::Arc;

use loom::thread;
use vyre_ioq::{Claim, HostQueue, Op, Queue, QueueLayout, Request};

use crate::{Times, explore, reserve, write};

/// Sweeps as the loop does: if a sweep claims a fence, the slots before it are swept once more.
fn sweep(host: &mut HostQueue) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut fence = None;
    host.claim_published(0..u32::MAX, |claim| {
        if claim.image.op == Op::Fence as u32 {
            fence = Some(claim.slot);
        }
        claims.push(claim);
    });
    if let Some(slot) = fence {
        host.claim_published(0..slot, |claim| claims.push(claim));
    }
    claims
}

/// Sweeps until all requests are claimed. No sweep may claim a fence without the requests before it.
fn serve(host: &mut HostQueue, fence: u32, before: &[u32], apart: &Times) {
    let mut claimed = Vec::new();
    while claimed.len() < before.len() + 1 {
        if !claimed.is_empty() {
            apart.once_more();
        }
        claimed.extend(sweep(host).iter().map(|claim| claim.slot));
        if claimed.contains(&fence) {
            for slot in before {
                assert!(
                    claimed.contains(slot),
                    "{slot} came before the fence in {fence}"
                );
            }
        } else {
            thread::yield_now();
        }
    }
}

/// One lane publishes in each slot of `before`, then a fence in slot `fence`.
fn one_lane(name: &str, slots: u32, before: &'static [u32], fence: u32) {
    let apart = Times::default();
    let times = apart.clone();
    explore(name, 2, move || {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(slots)).expect("memory");
        let lane = thread::spawn(move || {
            let mut reserved: Vec<_> = (0..slots).map(|_| Some(reserve(&device))).collect();
            let mut publish = |slot: u32, request: Request| {
                let reservation = reserved[slot as usize].take().expect("used once");
                let _lost = device.publish(reservation, &request);
            };
            for &slot in before {
                publish(slot, write(slot));
            }
            publish(fence, Request::fence());
        });
        serve(&mut host, fence, before, &times);
        lane.join().expect("no panic in the lane");
    });
    assert!(apart.get() > 0, "never claimed by more than one sweep");
}

/// Rule: ABI-6.9.
#[test]
fn a_request_in_a_slot_before_that_of_the_fence() {
    one_lane("before, fence", 2, &[0], 1);
}

/// Rule: ABI-6.7.
#[test]
fn a_request_in_a_slot_after_that_of_the_fence() {
    one_lane("fence, before", 2, &[1], 0);
}

/// Rule: ABI-4.21.
#[test]
fn a_request_in_a_group_after_that_of_the_fence() {
    one_lane("fence, other group", 3, &[2], 0);
}

/// Rule: ABI-4.21.
#[test]
fn a_request_in_a_group_before_that_of_the_fence() {
    one_lane("other group, fence", 3, &[0], 2);
}

/// Rule: ABI-6.9.
#[test]
fn requests_on_both_sides_of_the_fence() {
    one_lane("both sides", 3, &[2, 0], 1);
}

/// Rule: ABI-4.19.
#[test]
fn a_lane_relies_on_the_mark_of_another() {
    explore("one marks, another publishes", 2, || {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(4)).expect("memory");
        let device = Arc::new(device);
        let (first, _second) = (reserve(&device), reserve(&device));
        let marker = {
            let device = Arc::clone(&device);
            thread::spawn(move || drop(reserve(&device)))
        };
        let slot = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let lane = {
            let (device, slot) = (Arc::clone(&device), Arc::clone(&slot));
            thread::spawn(move || {
                let ticket = reserve(&device);
                slot.store(ticket.slot(), std::sync::atomic::Ordering::Relaxed);
                let _lost = device.publish(ticket, &write(1));
                let _lost = device.publish(first, &Request::fence());
            })
        };
        let mut claims = sweep(&mut host);
        while claims.is_empty() {
            thread::yield_now();
            claims = sweep(&mut host);
        }
        let claimed: Vec<_> = claims.iter().map(|claim| claim.slot).collect();
        let slot = slot.load(std::sync::atomic::Ordering::Relaxed);
        assert!(claimed.contains(&slot), "{slot} is not in {claimed:?}");
        marker.join().expect("no panic");
        lane.join().expect("no panic");
    });
}
