use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use bytemuck::Zeroable;
use rows::Plan;
use tempfile::NamedTempFile;
use vyre_ioq_cuda::view::DeviceView;

use crate::common::{Device, Error, Way};
use crate::{assert_past_the_end, file_of, flip, gpu, threads, wrong};

#[path = "../../examples/gather/rows.rs"]
pub(crate) mod rows;

/// Rows of fewer values than a warp has lanes, and not of whole units of 16 bytes.
fn small() -> Plan {
    Plan {
        view: DeviceView::zeroed(),
        warps: 2,
        loops: 1,
        rows: 500,
        columns: 21,
        fanout: 5,
        batch_size: 3,
        batches: 3,
        seed: 7,
    }
}

fn table(plan: &Plan) -> (File, NamedTempFile, PathBuf) {
    let (guard, path) = file_of(&[]);
    rows::write_example(&path, plan.rows, plan.columns).expect("room");
    let file = File::options().read(true).write(true).open(&path);
    (file.expect("there"), guard, path)
}

/// Gathers, compares, and finds what is changed.
fn gathers(device: &mut Device, plan: &Plan, way: Way) {
    let (file, _guard, path) = table(plan);
    let view = device.view(&file, way).expect("a view, or none");
    let plan = &Plan { view, ..*plan };
    assert_eq!(
        rows::rows_of(&file, &path, plan.columns).expect("rows"),
        plan.rows
    );
    let gathered = rows::gather(device, &file, plan).expect("an orderly end");
    assert_eq!(gathered.batches.len(), plan.batches as usize);
    assert!(gathered.elapsed > Duration::ZERO);
    gathered.verify(&file, &path, plan).expect("the same");

    // The row of another node in the place of one that was asked for.
    let mut other = vec![0; plan.row_bytes() as usize];
    let (one, another) = (plan.neighbour(2, 1), plan.neighbour(0, 0));
    assert_ne!(one, another);
    let at = one * plan.row_bytes();
    file.read_exact_at(&mut other, another * plan.row_bytes())
        .expect("a row");
    let mut right = other.clone();
    file.read_exact_at(&mut right, at).expect("a row");
    file.write_all_at(&other, at).expect("a row");
    let text = wrong(gathered.verify(&file, &path, plan));
    assert!(text.starts_with("node 2,"), "{text}");
    file.write_all_at(&right, at).expect("a row");
    gathered.verify(&file, &path, plan).expect("the same again");

    // A bit of the last value of a row, of a weight that its mean shows.
    let node = u64::from(plan.batch_size * plan.batches) - 1;
    let last = (plan.neighbour(node, plan.fanout - 1) + 1) * plan.row_bytes();
    flip(&file, last - 2);
    let text = wrong(gathered.verify(&file, &path, plan));
    assert!(
        text.contains(&format!("column {}", plan.columns - 1)),
        "{text}"
    );
}

#[test]
fn threads_gather_the_rows_that_the_cpu_finds() {
    assert_eq!(small().requests(), 5 * 3 * 3);
    gathers(&mut threads(), &small(), Way::Queue);
}

#[test]
fn threads_gather_the_same_rows_from_a_view() {
    for columns in [21, 24] {
        let plan = Plan { columns, ..small() };
        gathers(&mut threads(), &plan, Way::View);
    }
}

#[test]
fn rows_past_the_end_end_all_warps() {
    let plan = small();
    let (file, _guard, _) = table(&plan);
    let more = Plan {
        rows: 100 * plan.rows,
        ..plan
    };
    assert_past_the_end(rows::gather(&mut threads(), &file, &more));
}

#[test]
fn what_cannot_be_gathered_is_refused() {
    let plan = small();
    let (file, _guard, path) = table(&plan);
    for unfit in [
        Plan { rows: 0, ..plan },
        Plan { columns: 0, ..plan },
        Plan { fanout: 0, ..plan },
        Plan { fanout: 33, ..plan },
        Plan { batches: 0, ..plan },
        Plan {
            batch_size: 1,
            ..plan
        },
        Plan { loops: 3, ..plan },
    ] {
        let refused = rows::gather(&mut threads(), &file, &unfit);
        assert!(
            matches!(refused, Err(Error::Unfit(_))),
            "{unfit:?}: {refused:?}"
        );
    }
    let none = rows::rows_of(&file, &path, 1 << 20);
    assert!(matches!(none, Err(Error::Unfit(_))), "{none:?}");
}

#[test]
fn a_gpu_gathers_the_rows_that_the_cpu_finds() {
    let Some(mut device) = gpu("a_gpu_gathers_the_rows_that_the_cpu_finds") else {
        return;
    };
    let large = Plan {
        view: DeviceView::zeroed(),
        warps: device.warps(None, false).expect("it suits"),
        // As many as the warps have requests for.
        loops: 4,
        rows: 20_000,
        columns: 128,
        fanout: 32,
        batch_size: 512,
        batches: 4,
        seed: 1,
    };
    for way in [Way::Queue, Way::Auto] {
        for plan in [small(), large] {
            gathers(&mut device, &plan, way);
        }
    }
}
