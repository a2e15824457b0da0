//! Harness for tests of faults that only a real kernel can cause: files that hang, fail, lose bytes or
//! transfer too few; full and frozen file systems; limits, filters and signals.
//!
//! A test runs in a child process, since it may hang or be killed. Its parent sets up a stage
//! before the test and removes it afterwards, whatever became of the child. The parent serves the
//! FUSE file system, so it can end a hang of the child. See [`run`].

mod fuse;
mod needs;
mod runner;
mod scene;
mod stage;
mod undo;

pub mod rig;

pub use fuse::{Faults, serve};
pub use fuser::BackgroundSession;
pub use needs::{Ext4, Mapper, Need};
pub use runner::{Test, run};
pub use scene::{Frozen, Fuse, LIMIT, Scene, eventually, pattern};
