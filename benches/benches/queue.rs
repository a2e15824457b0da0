//! Both ends of a queue on one core: instructions, not cache misses.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vyre_io::{Queue, QueueLayout, Request, Ticket};

/// Publishes, claims, completes and takes `active` requests in a queue of `slots`.
fn lap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue/lap");
    for (slots, active) in [(64, 1), (64, 64), (4096, 1), (4096, 4096)] {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(slots)).expect("a queue");
        let mut claimed = Vec::with_capacity(slots as usize);
        group.throughput(Throughput::Elements(active));
        let id = BenchmarkId::from_parameter(format!("{active} of {slots}"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                let tickets: Vec<Ticket> = (0..active)
                    .map(|_| device.submit(Request::fence()).expect("room"))
                    .collect();
                host.claim_published(0..slots, |claim| claimed.push(claim.slot));
                for slot in claimed.drain(..) {
                    host.complete(slot, Ok(0)).expect("owed");
                }
                for ticket in tickets {
                    device
                        .take(ticket)
                        .expect("an outcome")
                        .bytes()
                        .expect("OK");
                }
            });
        });
    }
    group.finish();
}

/// One sweep over slots that hold nothing: what a pass without work costs.
fn idle_sweep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue/idle_sweep");
    for slots in [64, 1024, 4096] {
        let (mut host, _device) =
            Queue::anonymous(QueueLayout::with_slots(slots)).expect("a queue");
        group.throughput(Throughput::Elements(slots.into()));
        group.bench_function(BenchmarkId::from_parameter(slots), |bencher| {
            bencher.iter(|| host.claim_published(0..slots, |_| {}));
        });
    }
    group.finish();
}

criterion_group!(benches, lap, idle_sweep);
criterion_main!(benches);
