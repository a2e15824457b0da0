//! Measures what the engine's steps cost for one request, while it holds few or many requests. The
//! table in DESIGN.md says which of these costs are constant.
//!
//! The transport is a simulation that never completes anything by itself, so that requests wait.

use std::time::{Duration, Instant};

use vyre_ioloop::{BufferTable, Engine, FileTable, Rights};
use vyre_ioq::{BufferHandle, DeviceQueue, FileHandle, Queue, QueueLayout, Request};
use vyre_uring::{Buffer, SimTransport};

/// Number of slots of a queue.
const SLOTS: u32 = 4096;

struct Rig {
    engine: Engine<SimTransport>,
    devices: Vec<DeviceQueue>,
    file: FileHandle,
    pool: BufferHandle,
}

fn rig(requests: u32) -> Result<Rig, Box<dyn std::error::Error>> {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = files.insert(tempfile::tempfile()?, Rights::all())?;
    let pool = buffers.insert(Buffer::anonymous(4096)?)?;
    let (mut hosts, mut devices) = (Vec::new(), Vec::new());
    for _ in 0..requests.div_ceil(SLOTS) {
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(SLOTS))?;
        hosts.push(host);
        devices.push(device);
    }
    let transport = SimTransport::builder(1).capacity(64).stuck(1.0).build();
    Ok(Rig {
        engine: Engine::new(transport, files, buffers, hosts)?,
        devices,
        file,
        pool,
    })
}

impl Rig {
    fn submit(&self, requests: u32, request: Request) {
        for n in 0..requests {
            let device = &self.devices[(n / SLOTS) as usize];
            let _ticket = device.submit(request).expect("a free slot");
        }
    }
}

/// Returns the nanoseconds that `work` takes for each request.
fn each(requests: u32, work: impl FnOnce()) -> u128 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_nanos() / u128::from(requests)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("nanoseconds for each request");
    println!(
        "{:>9}  {:>6} {:>6} {:>6} {:>6}",
        "requests", "claim", "expire", "fences", "stop"
    );
    for requests in [1024, 4096, 16_384, 61_440] {
        let mut rig = rig(requests)?;
        let read = Request::read(rig.file, 0, 8).into_buffer(rig.pool, 0);
        let clock = rig.engine.drive_clock();
        rig.submit(requests, read.with_deadline(1_000));
        let claim = each(requests, || {
            let _ = rig.engine.step();
        });
        clock.advance(Duration::from_millis(1));
        let expire = each(requests, || {
            let _ = rig.engine.step();
        });

        let mut rig = self::rig(requests)?;
        let clock = rig.engine.drive_clock();
        rig.submit(1, Request::read(rig.file, 0, 8).into_buffer(rig.pool, 0));
        for (queue, device) in rig.devices.iter().enumerate() {
            let first = Request::read(rig.file, 0, 8).into_buffer(rig.pool, 0);
            let fences = SLOTS.min(requests - queue as u32 * SLOTS) - 2;
            let _ticket = device.submit(first)?;
            for _ in 0..fences {
                let _ticket = device.submit(Request::fence().with_deadline(1_000))?;
            }
        }
        let _ = rig.engine.step();
        clock.advance(Duration::from_millis(1));
        let fences = each(requests, || {
            let _ = rig.engine.step();
        });

        let mut rig = self::rig(requests)?;
        rig.submit(requests, read);
        let _ = rig.engine.step();
        let stop = each(requests, || {
            let _ = rig.engine.stop(Duration::ZERO);
        });
        println!("{requests:>9}  {claim:>6} {expire:>6} {fences:>6} {stop:>6}");
    }
    Ok(())
}
