//! What may remove waves between a network and the inboxes.

use crate::channel::Pattern;
use crate::wave::Wave;

/// How waves arrive from a network.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// The pattern for which the network delivers them.
    pub pattern: &'a Pattern,
    /// The id of the subscription that gets them alone, as a member of a group.
    pub member: Option<u64>,
}

/// Decides which waves from a network may pass.
pub trait ArrivalFilter: Send + Sync {
    /// Removes waves of one channel that may not pass. Called for each delivery, before the inboxes get it.
    fn filter(&self, waves: &mut Vec<Wave>, arrival: Arrival<'_>);
}
