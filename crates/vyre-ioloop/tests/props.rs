//! Honest lanes beside a hostile device, on a transport with faults. In whatever order things happen,
//! each honest publication gets exactly one outcome, and the right one.

mod common;
mod model;
mod stress;

use std::time::Duration;

use common::*;
use model::{World, action, faults, file_in_memory};
use proptest::prelude::*;
use vyre_ioloop::{BufferTable, Engine, FileTable, Rights};
use vyre_ioq::abi::word;

proptest! {
    #![proptest_config(keeping(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/props.regressions")))]

    /// Rule: ABI-4.11.
    #[test]
    fn each_honest_publication_gets_exactly_one_outcome_and_the_right_one(
        faults in faults(),
        actions in prop::collection::vec(action(), 1..150),
    ) {
        let mut world = World::new(&faults);
        for action in actions {
            world.act(action);
        }
        world.finish();
    }

    /// Against a transport whose operations end in any order and with any result. A failure prints the
    /// seed; see [`stress::run`].
    ///
    /// Rules: ABI-6.7, ABI-6.11, SEC-12.
    #[test]
    fn the_engine_keeps_order_and_shares_however_operations_end(
        seed in any::<u64>().no_shrink(),
    ) {
        stress::run(seed);
    }

    /// Every slot is hostile. The kernel may hold operations for ever.
    ///
    /// Rule: SEC-5.
    #[test]
    fn whatever_words_a_device_stores_the_engine_continues_and_stops(
        faults in faults(),
        hung in prop_oneof![Just(0.0), Just(0.1)],
        passes in prop::collection::vec(
            prop::collection::vec((0..8_u32, words()), 0..8),
            1..40,
        ),
    ) {
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let disk = file_in_memory(&[7; 4096]);
        let part = disk.try_clone().expect("a descriptor");
        files.insert_range(part, 1024..2048, Rights::all()).expect("fit");
        let memory = memory(4096);
        memory.write_at(0, &[9; 4096]).expect("inside");
        let both = Rights::READ | Rights::WRITE;
        buffers.insert_range(memory.clone(), 1024..2048, both).expect("fit");
        let (slots, host, _device) = Slots::queue(8);
        let transport = faults.transport().hung(hung).build();
        let mut engine = Engine::new(transport, files, buffers, vec![host]).expect("accepted");
        for pass in passes {
            for (slot, words) in pass {
                let status = words[word::STATUS];
                slots.publish_words(slot, &words);
                slots.store(slot, word::STATUS, status);
            }
            let _ = engine.step();
            prop_assert!(engine.outstanding() <= 8);
        }
        let quiet = engine.stop(Duration::ZERO);
        prop_assert!(quiet.is_ok() || hung > 0.0);
        let kept = quiet.map_or_else(|busy| busy.in_flight, |()| 0);
        // Fences that wait for operations that the kernel holds have no outcome either.
        prop_assert!(engine.outstanding() >= kept);
        prop_assert!(kept > 0 || engine.outstanding() == 0);
        // Nothing outside the two ranges was touched.
        let mut bytes = vec![0; 4096];
        std::os::unix::fs::FileExt::read_exact_at(&disk, &mut bytes, 0).expect("whole");
        for outside in [0..1024, 2048..4096] {
            prop_assert!(bytes[outside.clone()].iter().all(|&byte| byte == 7));
            let held = contents(&memory, outside.start, outside.len());
            prop_assert!(held.iter().all(|&byte| byte == 9));
        }
    }
}

/// Sixteen words, each probably with a meaning.
fn words() -> impl Strategy<Value = [u32; 16]> {
    let likely = |most: u32| prop_oneof![4 => 0..most, 1 => any::<u32>()];
    let zero = || prop_oneof![20 => Just(0_u32), 1 => any::<u32>()];
    let handles = (likely(7), likely(3), likely(3));
    let place = (likely(1100), zero(), likely(1100), likely(1100), zero());
    let rest = (likely(3), any::<u32>(), zero(), likely(3));
    (handles, place, rest, [zero(), zero(), zero(), zero()]).prop_map(
        |((op, source, destination), place, (status, tag, flags, deadline), reserved)| {
            let (offset, offset_high, count, at, at_high) = place;
            let [a, b, c, d] = reserved;
            [
                op,
                source,
                destination,
                offset,
                offset_high,
                count,
                status,
                tag,
                at,
                at_high,
                flags,
                deadline,
                a,
                b,
                c,
                d,
            ]
        },
    )
}
