//! The engine over a real ring, driven by hand: the whole cost of a request on the loop's core.

use std::io::Write;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vyre_io::uring::Ring;
use vyre_io::{
    Buffer, BufferTable, Engine, FileTable, Queue, QueueLayout, Request, Rights, Ticket,
};

const BLOCK: u32 = 4096;

fn cached_reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine/cached_read");
    for depth in [1_u32, 8, 64] {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&vec![7; (depth * BLOCK) as usize])
            .expect("room");
        let mut files = FileTable::new();
        let mut buffers = BufferTable::new();
        let file = files.insert(file, Rights::READ).expect("readable");
        let buffer = Buffer::anonymous((depth * BLOCK) as usize).expect("memory");
        let pool = buffers.insert(buffer).expect("room");
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).expect("a queue");
        let ring = Ring::builder().files(8).buffers(8).build().expect("a ring");
        let mut engine = Engine::new(ring, files, buffers, vec![host]).expect("an engine");

        group.throughput(Throughput::Elements(depth.into()));
        group.bench_function(BenchmarkId::from_parameter(depth), |bencher| {
            bencher.iter(|| {
                let tickets: Vec<Ticket> = (0..depth)
                    .map(|index| {
                        let at = u64::from(index * BLOCK);
                        let read = Request::read(file, at, BLOCK).into_buffer(pool, at);
                        device.submit(read).expect("room")
                    })
                    .collect();
                for mut ticket in tickets {
                    let outcome = loop {
                        match device.take(ticket) {
                            Ok(outcome) => break outcome,
                            Err(pending) => ticket = pending,
                        }
                        let _ = engine.step();
                    };
                    assert_eq!(outcome.bytes(), Ok(BLOCK));
                }
            });
        });
    }
    group.finish();
}

/// The host's time for a fence, with all lanes' fences there at once, and the lines in its own core.
fn fences(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine/fences");
    for lanes in [64_u32, 1024] {
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(lanes)).expect("a queue");
        // A ring that nothing is ever given to: a fence needs none.
        let ring = Ring::builder().build().expect("a ring");
        let (files, buffers) = (FileTable::new(), BufferTable::new());
        let mut engine = Engine::new(ring, files, buffers, vec![host]).expect("an engine");
        let mut kept: Vec<_> = (0..lanes)
            .map(|_| device.reserve().expect("free"))
            .collect();
        let mut tickets = Vec::with_capacity(lanes as usize);

        group.throughput(Throughput::Elements(lanes.into()));
        group.bench_function(BenchmarkId::from_parameter(lanes), |bencher| {
            bencher.iter_custom(|laps| {
                let mut took = Duration::ZERO;
                for _ in 0..laps {
                    let fences = kept.drain(..);
                    tickets.extend(fences.map(|slot| device.publish(slot, &Request::fence())));
                    let started = Instant::now();
                    while engine.step().claimed > 0 {}
                    took += started.elapsed();
                    kept.extend(tickets.drain(..).map(|ticket| {
                        let (outcome, slot) = device.take_and_keep(ticket).expect("answered");
                        assert_eq!(outcome.bytes(), Ok(0));
                        slot
                    }));
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cached_reads, fences);
criterion_main!(benches);
