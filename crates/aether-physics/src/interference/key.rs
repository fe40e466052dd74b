//! A key that is claimed: its name, and its state.

use super::evidence::Evidence;
use crate::timeline::Moment;
use aether_core::Channel;

#[derive(Debug)]
pub(super) struct ClaimKey {
    pub(super) channel: Channel,
    pub(super) key: String,
}

/// The state of one key.
#[derive(Debug, Default)]
pub(super) struct KeyState {
    pub(super) evidence: Evidence,
    /// The number of its alert, if it was last reported as risen.
    pub(super) lit: Option<u64>,
    /// Whether it is about to be lit, in this tick.
    pub(super) rises: bool,
    /// The beginning of a change that has not settled yet.
    pub(super) pending: Option<Moment>,
    pub(super) deadline: Option<Moment>,
    /// The evidence for which the deadline to fall was set. While there is more, it only moves away.
    pub(super) armed: f64,
    pub(super) dirty: bool,
    /// The span of time in which it was claimed last.
    pub(super) span: u32,
}

impl ClaimKey {
    pub(super) fn name(&self) -> (&str, &str) {
        (self.channel.as_str(), &self.key)
    }

    pub(super) fn is(&self, channel: &Channel, key: &str) -> bool {
        self.key == key && self.channel == *channel
    }
}
