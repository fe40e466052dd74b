//! The counters of the receiving task.

use std::sync::atomic::{AtomicU64, AtomicUsize};

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) malformed: AtomicU64,
    pub(super) misplaced: AtomicU64,
    pub(super) lost_upstream: AtomicU64,
    pub(super) forgotten_streams: AtomicU64,
    pub(super) refused_sealed: AtomicU64,
    /// Waves for members that are not known here, and those passed on to other members for which there was no room.
    pub(super) homeless: AtomicU64,
    /// Messages of another version of the protocol, which count as malformed, too.
    pub(super) other_version: AtomicU64,
    /// The queues of waves that wait for full inboxes.
    pub(super) crowds: AtomicUsize,
}
