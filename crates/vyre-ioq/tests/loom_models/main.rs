//! Both ends under loom: the code that runs in production, in every order of its threads up to a
//! bound of preemptions, with every value that the memory model lets a load return.
//!
//! `cargo xtask ci --step loom` runs them. `ORDERINGS.md` says which model needs which ordering.

#![cfg(loom)]

mod doorbell;
mod fence;
mod life;
mod plain;
mod slots;
mod wake;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;
use vyre_ioq::{
    BufferHandle, Claim, DeviceQueue, FileHandle, HostQueue, Outcome, Request, Reservation, Ticket,
};

/// Count over all executions of a model. loom does not see it.
#[derive(Clone, Default)]
struct Times(Arc<AtomicUsize>);

impl Times {
    fn once_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs a model with at most `preemptions` of them in one execution, or as many as the environment
/// says in `LOOM_MAX_PREEMPTIONS`. A thread that yields or ends is not preempted.
fn explore(name: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let bound = *builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    let executions = Times::default();
    let counter = executions.clone();
    builder.check(move || {
        counter.once_more();
        model();
    });
    println!(
        "{name}: {} executions, at most {bound} preemptions",
        executions.get()
    );
}

fn write(tag: u32) -> Request {
    Request::write(FileHandle::from_raw(1), 0, 4)
        .from_buffer(BufferHandle::from_raw(1), 0)
        .with_tag(tag)
}

fn reserve(device: &DeviceQueue) -> Reservation {
    loop {
        match device.reserve() {
            Ok(reservation) => return reservation,
            Err(_) => thread::yield_now(),
        }
    }
}

/// Polls until there is an outcome. The slot stays reserved.
fn outcome(device: &DeviceQueue, ticket: &Ticket) -> Outcome {
    loop {
        match device.poll(ticket) {
            Some(outcome) => return outcome,
            None => thread::yield_now(),
        }
    }
}

/// Sweeps every slot once.
fn claim(host: &mut HostQueue) -> Vec<Claim> {
    let mut claims = Vec::new();
    host.claim_published(0..u32::MAX, |claim| claims.push(claim));
    claims
}
