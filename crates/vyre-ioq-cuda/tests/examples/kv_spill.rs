use blocks::{Counts, Phases, Plan};

use crate::common::{Device, Error};
use crate::{assert_past_the_end, file_of, flip, gpu, threads, wrong};

#[path = "../../examples/kv_spill/blocks.rs"]
pub(crate) mod blocks;

fn small() -> Plan {
    Plan {
        warps: 3,
        loops: 2,
        blocks: 10,
        block_size: 1040,
        seed: 3,
        phases: Phases::BOTH,
    }
}

/// Spills and restores; then a byte of the file changes, and both the kernel and the CPU see it.
fn spills_and_restores(device: &mut Device, plan: &Plan) {
    let (file, path) = file_of(&[]);
    let file = file.as_file();
    let (counts, _) = blocks::spill(device, file, plan).expect("an orderly end");
    assert_eq!(
        (counts.written, counts.compared),
        (plan.blocks, plan.blocks)
    );
    blocks::check(&counts, plan).expect("all blocks");
    blocks::verify(file, &path, plan).expect("the file holds them");

    let changed = plan.blocks - 2;
    flip(file, changed * u64::from(plan.block_size) + 1033);
    let text = wrong(blocks::verify(file, &path, plan));
    assert!(
        text.contains(&format!("block {changed} differs at its byte 1032")),
        "{text}"
    );
    let again = Plan {
        phases: Phases::RESTORE,
        ..*plan
    };
    let (counts, _) = blocks::spill(device, file, &again).expect("an orderly end");
    let expected = Counts {
        compared: plan.blocks,
        bad: 1,
        bad_block: changed,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    let text = wrong(blocks::check(&counts, &again));
    assert!(text.contains(&format!("block {changed}")), "{text}");
}

#[test]
fn threads_spill_and_restore_and_find_a_changed_byte() {
    spills_and_restores(&mut threads(), &small());
}

#[test]
fn blocks_that_were_not_spilled_are_not_restored() {
    let plan = Plan {
        phases: Phases::RESTORE,
        ..small()
    };
    let (file, _) = file_of(&vec![0; plan.bytes() as usize - 1]);
    assert_past_the_end(blocks::spill(&mut threads(), file.as_file(), &plan));
}

#[test]
fn what_the_kernel_did_not_do_is_seen() {
    let plan = small();
    let all = Counts {
        written: 10,
        compared: 10,
        synced: 2,
        ..Counts::default()
    };
    blocks::check(&all, &plan).expect("all of it");
    for short in [
        Counts { written: 9, ..all },
        Counts { compared: 9, ..all },
        Counts { synced: 1, ..all },
        Counts { early: 1, ..all },
    ] {
        wrong(blocks::check(&short, &plan));
    }
    // A file that is longer holds something else too.
    let (file, path) = file_of(&vec![0; plan.bytes() as usize + 1]);
    wrong(blocks::verify(file.as_file(), &path, &plan));
    for unfit in [
        Plan { blocks: 0, ..plan },
        Plan {
            block_size: 100,
            ..plan
        },
    ] {
        let refused = blocks::spill(&mut threads(), file.as_file(), &unfit);
        assert!(matches!(refused, Err(Error::Unfit(_))), "{refused:?}");
    }
}

#[test]
fn a_gpu_spills_and_restores_and_finds_a_changed_byte() {
    let Some(mut device) = gpu("a_gpu_spills_and_restores_and_finds_a_changed_byte") else {
        return;
    };
    spills_and_restores(&mut device, &small());
    let large = Plan {
        warps: device.warps(None, false).expect("it suits"),
        loops: 2,
        blocks: 1000,
        block_size: 64 << 10,
        seed: 9,
        phases: Phases::BOTH,
    };
    spills_and_restores(&mut device, &large);
}
