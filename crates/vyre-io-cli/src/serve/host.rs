//! The loops that serve all peers.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vyre_io::{LoopGroup, LoopOptions};
use vyre_io_client::protocol::Limits;

use super::args::ServeArgs;
use super::policy::Policy;
use crate::failure::Failure;

/// Descriptors of the server itself: its sockets, rings and standard streams.
const OWN_DESCRIPTORS: u64 = 64;

/// Most entries of a ring, which the kernel limits, and most files and buffers of one.
const RING_ENTRIES: u64 = 32_768;
const TABLE_ENTRIES: u64 = 16_000;

/// Starts the loops, with room for all that the peers may have.
pub(crate) fn start(args: &ServeArgs, policy: &Policy) -> Result<LoopGroup, Failure> {
    let loops = args.loops.get() as usize;
    let peers = policy.peers as u64;
    let most = |of: fn(&Limits) -> u32| -> u64 {
        let each = policy.all_limits().map(|limits| of(&limits));
        peers * u64::from(each.max().unwrap_or(0))
    };
    let (queues, buffers, files) = (
        most(|limits| limits.queues),
        most(|limits| limits.buffers),
        most(|limits| limits.open_files),
    );
    // The memory of a queue and of a buffer has a descriptor, and each loop may open a file anew.
    let descriptors = OWN_DESCRIPTORS + peers + queues + buffers + files * loops as u64;
    allow_descriptors(descriptors);
    let on_one = queues.div_ceil(loops as u64);
    let entries = (4 * on_one).next_power_of_two().clamp(1024, RING_ENTRIES);
    let live = buffers.max(files).clamp(64, TABLE_ENTRIES);
    let options = LoopOptions::new()
        .transport(args.transport.into())
        .wait_policy(args.wait.into())
        .ring_entries(entries as u32)
        .live_entries(live as u32)
        .drain_timeout(args.drain);
    let group = LoopGroup::builder()
        .loops(loops)
        .options(options)
        .name("vyre-io-serve")
        .spawn()?;
    for index in 0..loops {
        if let Some(report) = group.report(index) {
            tracing::info!(index, transport = %report.summary(), "loop started");
        }
    }
    Ok(group)
}

/// Raises the limit on descriptors as far as it may be.
fn allow_descriptors(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let failed = setrlimit(Resource::Nofile, raised).err();
    let has = match failed {
        None => most,
        Some(_) => limit.current.unwrap_or(u64::MAX),
    };
    if has < wanted {
        tracing::warn!(
            limit = has,
            wanted,
            "not enough descriptors for all peers at their limits: those that come later are refused; raise \
             LimitNOFILE= or the limits of `ulimit -Hn`, or lower --peers and the limits of each"
        );
    }
}
