use std::fs::File;

use vyre_ioq::{FileHandle, Queue, QueueLayout, Request};
use vyre_uring::{Buffer, SimTransport};

use super::*;
use crate::record::Work;
use crate::rights::Rights;

const SYNCS: u32 = 500;

fn file(files: &mut FileTable) -> FileHandle {
    let file: File = tempfile::tempfile().expect("a temporary file");
    file.set_len(4096).expect("room on the disk");
    files.insert(file, Rights::all()).expect("fit")
}

/// A property of cost: a walk for each would take a pass as long as the square of its SYNCs.
#[test]
fn the_syncs_of_a_pass_walk_the_records_once() {
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
        let write = Request::write(file, 0, 8).from(pool, 0);
        let _ = device.submit(write).expect("a free slot");
    }
    for turn in 0..SYNCS as usize {
        for file in [written[turn % 2], others[turn % 2]] {
            let _ = device.submit(Request::sync(file)).expect("a free slot");
        }
    }
    assert_eq!(engine.step().claimed, 3 + 2 * SYNCS);
    let served = &engine.books.queues[0];
    assert_eq!(served.walks, 1);
    let (mut counts, mut free) = ([0; 3], 0);
    for record in &served.records {
        if let Work::Sync { writes, .. } = record.work {
            counts[writes as usize] += 1;
            free += u32::from(writes == 0);
        }
    }
    assert_eq!(counts, [SYNCS, SYNCS / 2, SYNCS / 2]);
    assert_eq!(free, SYNCS, "of files that nobody writes");
    engine.stop(Duration::ZERO).expect("all of it ends");
}
