//! The other replicas of a field.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::wire::Beat;
use crate::core::{Digest, WriterId};

/// The maximum number of peers that are remembered. Beyond it the one that was silent for longest is forgotten.
const MAX_PEERS: usize = 1024;

/// How long a peer may be silent.
const SILENCE: Duration = Duration::from_secs(5);

/// Another replica of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its name.
    pub replica: String,
    /// The writer of its changes. It is another one after each start.
    pub writer: WriterId,
    /// Whether it had the same state as this replica when it was heard last.
    pub agrees: bool,
}

#[derive(Debug)]
struct Known {
    replica: String,
    digest: Digest,
    heard: Instant,
    /// When the last reconciliation with it ended.
    reconciled: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<WriterId, Known>);

impl Peers {
    /// Takes in a beat. Returns whether the peer is new.
    pub(super) fn heard(&mut self, beat: &Beat, now: Instant) -> bool {
        if beat.leaves {
            self.0.remove(&beat.writer);
            return false;
        }
        if let Some(known) = self.0.get_mut(&beat.writer) {
            (known.heard, known.digest) = (now, beat.digest);
            return false;
        }
        if self.0.len() >= MAX_PEERS
            && let Some((&oldest, _)) = self.0.iter().min_by_key(|(_, known)| known.heard)
        {
            self.0.remove(&oldest);
        }
        let replica = beat.replica.chars().take(64).collect();
        self.0.insert(beat.writer, Known { replica, digest: beat.digest, heard: now, reconciled: None });
        true
    }

    pub(super) fn forget_silent(&mut self, now: Instant) {
        self.0.retain(|_, known| now.saturating_duration_since(known.heard) < SILENCE);
    }

    pub(super) fn forget(&mut self, writer: WriterId) {
        self.0.remove(&writer);
    }

    /// Takes note of the digest in an answer.
    pub(super) fn answered(&mut self, writer: WriterId, digest: Digest, now: Instant) {
        if let Some(known) = self.0.get_mut(&writer) {
            (known.digest, known.heard) = (digest, now);
        }
    }

    pub(super) fn reconciled(&mut self, writer: WriterId, now: Instant) {
        if let Some(known) = self.0.get_mut(&writer) {
            known.reconciled = Some(now);
        }
    }

    /// Whether a peer had this digest when it was heard last.
    pub(super) fn agrees(&self, writer: WriterId, digest: Digest) -> bool {
        self.0.get(&writer).is_some_and(|known| known.digest == digest)
    }

    /// The peers that have another state, those that were reconciled longest ago first.
    pub(super) fn differing(&self, digest: Digest) -> Vec<(WriterId, Option<Instant>)> {
        let mut all: Vec<_> = self.0.iter().filter(|(_, known)| known.digest != digest).collect();
        all.sort_by_key(|(_, known)| known.reconciled);
        all.into_iter().map(|(&writer, known)| (writer, known.reconciled)).collect()
    }

    pub(super) fn writers(&self) -> Vec<WriterId> {
        self.0.keys().copied().collect()
    }

    pub(super) fn list(&self, digest: Digest) -> Vec<Peer> {
        let peer = |(&writer, known): (&WriterId, &Known)| Peer {
            replica: known.replica.clone(),
            writer,
            agrees: known.digest == digest,
        };
        self.0.iter().map(peer).collect()
    }
}
