//! Operations that the kernel still holds although their queue has been removed.

use super::request_state::RequestState;
use super::shares::Share;

/// The operations of a removed queue, until the kernel returns the last of them.
#[derive(Debug)]
pub(super) struct Abandoned {
    /// The entries of the transport that they use.
    pub(super) share: Share,
    pub(super) requests: Vec<RequestState>,
}
