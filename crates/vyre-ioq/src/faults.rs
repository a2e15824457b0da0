//! Counts of what a device did against the protocol.

use crate::state::PeerFault;

/// Counts of the device's protocol violations that the host end saw. The host follows none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HostFaults {
    /// Number of [`PeerFault::UnknownStatus`] faults. A slot counts once until its next claim, however
    /// often it is swept.
    pub unknown_status: u64,
    /// Number of [`PeerFault::ForgedClaim`] faults. A slot counts once until its next claim for this and
    /// `unknown_status` together.
    pub forged_claim: u64,
    /// Number of [`PeerFault::Overwritten`] faults. They are seen, and counted, when a slot is completed.
    pub overwritten: u64,
}

impl HostFaults {
    /// Returns the sum of all counts.
    pub const fn total(&self) -> u64 {
        self.unknown_status + self.forged_claim + self.overwritten
    }

    #[cold]
    pub(crate) const fn count(&mut self, fault: PeerFault) {
        let counter = match fault {
            PeerFault::UnknownStatus(_) => &mut self.unknown_status,
            PeerFault::ForgedClaim => &mut self.forged_claim,
            PeerFault::Overwritten(_) => &mut self.overwritten,
        };
        *counter = counter.saturating_add(1);
    }
}
