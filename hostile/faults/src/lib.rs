//! A stage for tests of what only a real kernel can do to a loop: files that hang, lose bytes,
//! answer short or refuse; full and frozen file systems; limits, filters and signals.
//!
//! A test runs in a child process, since it may hang or be killed. Its parent sets the stage before
//! and clears it afterwards, whatever became of the child: it serves the FUSE file system, so that
//! a hang of the child is the parent's to end. See [`run`].

mod fuse;
mod needs;
mod runner;
mod scene;
mod stage;
mod undo;

pub mod rig;

pub use needs::{Ext4, Mapper, Need};
pub use runner::{Test, run};
pub use scene::{Frozen, Fuse, LIMIT, Scene, eventually, pattern};
