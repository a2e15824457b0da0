//! `vyre-io serve`: serves byte ranges of files to other processes, over queues in shared memory.

pub(crate) mod args;
pub(crate) mod error;
mod holdings;
mod host;
mod limits;
mod log;
mod packets;
mod peer;
mod policy;
mod record;
mod server;
mod socket;
mod status;

use tokio::runtime::Builder;

use crate::failure::Failure;
use args::ServeArgs;
use error::ServeError;
use policy::Policy;
use server::Server;
use socket::Listener;

/// Priority of the threads that make and free what peers have: the loops go first.
const NICE: i32 = 5;

/// Threads beside those for the peers.
const OTHER_THREADS: usize = 2;

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    if args.status {
        return status::run(args);
    }
    let policy = Policy::new(args)?;
    let listener = Listener::new(args.socket.as_deref(), args.mode)?;
    let _log = log::start(args.log);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(policy.peers + OTHER_THREADS)
        .thread_name("vyre-io-peer")
        .on_thread_start(|| {
            let _ = rustix::process::setpriority_process(None, NICE);
        })
        .build()
        .map_err(ServeError::system("no runtime"))?;
    let loops = host::start(args, &policy)?;
    let served = runtime.block_on(Server::new(policy, loops).run(listener, args.drain));
    // A look-up of names may hang; nothing else is left.
    runtime.shutdown_background();
    served
}
