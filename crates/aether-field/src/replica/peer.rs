//! Another replica, and the events of those that join and leave.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::clock::ClockOffset;
use crate::core::WriterId;

/// The number of events that wait for [`PeerEvents::next`]. Beyond it the oldest are dropped, and counted in
/// [`PeerEvent::Missed`].
pub(super) const KEPT: usize = 1024;

/// Another replica of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its name. Anybody can take it.
    pub replica: String,
    /// The writer of its changes. It is another one after each start.
    pub writer: WriterId,
    /// The owner whose key has signed its beats; `None` if it has no identity, or none that this replica
    /// trusts.
    pub owner: Option<String>,
    /// Whether it had the same state as this replica when it was heard last.
    pub agrees: bool,
    /// The entries that it had when it was heard last, marks of removals included. A replica that has just joined sees its
    /// progress by comparing that with its own ([`FieldStatus::entries`](super::FieldStatus::entries)).
    pub entries: u64,
    /// Its clock, as it was when it was heard last.
    pub clock: ClockOffset,
}

/// An event of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// It was heard for the first time, or again after it had left.
    Joined(Peer),
    /// It has proven its owner after it joined: its certificate came later than itself.
    Proven(Peer),
    /// It said that it leaves, or was silent for too long.
    Left(Peer),
    /// The number of events that were dropped, because they were not taken. [`Field::peers`](super::Field::peers) has
    /// the present state.
    Missed(u64),
}

/// The peers that join and leave, from the call of [`Field::peer_events`](super::Field::peer_events) on.
#[derive(Debug)]
pub struct PeerEvents {
    pub(super) receiver: Receiver<PeerEvent>,
}

impl PeerEvents {
    /// The next event; `None` when the field is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(PeerEvent::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
