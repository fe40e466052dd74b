//! The inside of the medium, for simulations: what it has sent and taken in, and what it keeps.

/// What [`Aether::details`](aether_core::Aether::details) has of a medium of a local network, for simulations.
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LanInside {
    /// The waves that were sent to peers, once for each peer and member.
    pub sent: u64,
    /// The waves that have arrived from peers that sent them, not counting those that members pass on.
    pub arrived: u64,
    /// The waiting queues of waves for full inboxes.
    pub crowds: usize,
    /// The entries of tables about others, by their names. The bounded memories of senders, in which those who have gone
    /// stay for an hour, are not among them.
    pub tables: Vec<(&'static str, usize)>,
}
