use std::fs::File;
use std::time::Duration;

use vyre_ioq::{FileHandle, Queue, QueueLayout, Request};
use vyre_uring::{Buffer, SimTransport};

use super::request_state::Admitted;
use super::slot_lists::SlotList;
use super::*;
use crate::rights::Rights;

const SYNCS: u32 = 500;

fn file(files: &mut FileTable) -> FileHandle {
    let file: File = tempfile::tempfile().expect("a temporary file");
    file.set_len(4096).expect("room on the disk");
    files.insert(file, Rights::all()).expect("fit")
}

/// Costs stay linear: with a list for each SYNC, a pass would take time as the square of its SYNCs;
/// with a flush for each, the drive would take as long.
#[test]
fn the_syncs_of_a_pass_list_the_writes_once_and_share_flushes() {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let written = [(); 2].map(|()| file(&mut files));
    let others = [(); 2].map(|()| file(&mut files));
    let memory = Buffer::anonymous(4096).expect("memory");
    let pool = buffers.insert(memory).expect("fit");
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(1024)).expect("a queue");
    let sim = SimTransport::builder(1).stuck(1.0).build();
    let mut engine = Engine::new(sim, files, buffers, vec![host]).expect("accepted");
    // The second file is written twice.
    for file in [written[0], written[1], written[1]] {
        let write = Request::write(file, 0, 8).from_buffer(pool, 0);
        let _ = device.submit(write).expect("a free slot");
    }
    for turn in 0..SYNCS as usize {
        for file in [written[turn % 2], others[turn % 2]] {
            let _ = device.submit(Request::sync(file)).expect("a free slot");
        }
    }
    assert_eq!(engine.step().claimed, 3 + 2 * SYNCS);
    let queue = &engine.state.queues[0];
    // One SYNC of each file leads the others.
    let mut leaders = Vec::new();
    let mut slot = queue.lists.first(SlotList::AwaitsWrites);
    while let Some(leader) = slot {
        let request = &queue.requests[leader as usize];
        if let Admitted::Sync { writes, .. } = request.admitted {
            leaders.push(writes);
        }
        // Of the same list, made when three requests had been admitted.
        assert_eq!(request.sequence, 3);
        slot = queue.lists.after(leader);
    }
    assert_eq!(leaders, [1, 2], "writes that are waited for");
    // Files that nobody writes are flushed at once.
    assert_eq!(engine.counters().operations, 3 + 2);
    engine.stop(Duration::ZERO).expect("all of it ends");
}

#[test]
fn a_pass_publishes_the_counters_of_queues_that_changed() {
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
    let (idle, _other) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
    let sim = SimTransport::builder(1).build();
    let (files, buffers) = (FileTable::new(), BufferTable::new());
    let mut engine = Engine::new(sim, files, buffers, vec![host, idle]).expect("accepted");
    let shared = engine.shared_counters();
    let _ = engine.step();
    let mark = QueueCounters {
        claimed: 77,
        ..QueueCounters::default()
    };
    engine.state.queues[1].shared.publish(&mark);
    let _ = device.submit(Request::fence()).expect("a free slot");
    let _ = engine.step();
    assert_eq!(shared.queue(0.into()).unwrap().succeeded, 1);
    assert_eq!(shared.whole.read(), engine.counters());
    assert_eq!(shared.queue(1.into()), Some(mark), "nothing was stored");
    // With a heartbeat, all of them.
    engine.wait(Duration::ZERO);
    assert_eq!(shared.queue(1.into()), Some(QueueCounters::default()));
}
