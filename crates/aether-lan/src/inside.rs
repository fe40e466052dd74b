//! The inside of the medium, for simulations: what it has sent and taken in, and what it keeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::asking::Asking;
use crate::counts::Counts;
use crate::presence::Presence;
use crate::shared::LanShared;

/// [`Aether::details`](aether_core::Aether::details) of a medium of a local network has one, for simulations.
#[doc(hidden)]
pub struct LanInside {
    pub(super) shared: Arc<LanShared>,
    pub(super) presence: Arc<Presence>,
    pub(super) asking: Arc<Asking>,
    pub(super) counts: Arc<Counts>,
}

impl LanInside {
    /// The waves that were sent to peers, once for each peer and member.
    pub fn sent(&self) -> u64 {
        self.shared.peers.all_sent()
    }

    /// The waves that have arrived from peers that sent them, not counting those that members pass on.
    pub fn arrived(&self) -> u64 {
        self.shared.tallies.all_arrived()
    }

    /// The queues of waves that wait for full inboxes.
    pub fn crowds(&self) -> usize {
        self.counts.crowds.load(Ordering::Relaxed)
    }

    /// The entries of tables about others, by their names. The bounded memories of senders, in which those who have gone
    /// stay for an hour, are not among them.
    pub fn tables(&self) -> Vec<(&'static str, usize)> {
        let mut tables = self.shared.peers.tables();
        tables.extend(self.presence.tables());
        tables.extend([
            ("questions", self.asking.len()),
            ("crowds", self.crowds()),
            ("flights and pauses", self.shared.flights.load(Ordering::Relaxed)),
        ]);
        tables
    }
}
