//! What a medium reports of itself: its connection, its outbox, and what went wrong on the way.

use crate::inbox::Ledger;

/// The status of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MediumStatus {
    /// Whether the medium is connected now. Always true in process.
    pub connected: bool,
    /// The number of times the connection was established. It is 1 if the connection never broke.
    pub connects: u64,
    /// The account of the waves given to the medium. `delivered` waves were handed to the network, and `queued` waves
    /// are waiting. All counts are zero in process, where there is no outbox.
    pub outbox: Ledger,
    /// Waves handed to the network that the broker had not confirmed when the connection broke or was closed. This is
    /// an upper bound on the waves lost there.
    pub unconfirmed: u64,
    /// Waves handed to the network that the broker has not confirmed yet.
    pub in_flight: u64,
    /// Messages that the broker's client dropped before they reached the router (a lower bound), plus service discovery
    /// requests that were dropped because too many were waiting.
    pub dropped_by_client: u64,
    /// Messages that the broker's client received and that were never taken from it. They are waiting in its queues,
    /// were dropped by it, or arrived for a subscription that had just been left. When the medium is idle, this is an
    /// upper bound on the messages that the client has dropped.
    pub untaken: u64,
    /// Messages that were not valid frames, or arrived on a name that is not a channel.
    pub malformed: u64,
    /// Messages with impossible claims, either corrupted or forged in another sender's name. Examples: a stream
    /// position that the sender cannot have reached, a sending time that the sender's next frames contradict, an
    /// invalid marker, or an invalid server notice. The claims were ignored; the waves in these messages were not.
    pub implausible: u64,
    /// Waves that were never given to the medium. Their emitters respect the receivers' floors, and all receivers had
    /// announced that they would not accept these waves. [`Aether::status`](crate::Aether::status) counts them; media
    /// do not.
    pub shed_at_source: u64,
    /// Waves that were sent to the subscriptions of this process and lost anywhere on the way. A wave that two patterns
    /// would have delivered counts twice. [`Ledger::lost_upstream`] attributes the losses to receivers
    /// where that is possible.
    pub lost_upstream: u64,
    /// Sender channels that are no longer checked for gaps, because too many others have been used since.
    pub forgotten_streams: u64,
    /// Answers without a waiting asker: answers that arrived after the asker gave up, additional answers to the same
    /// question, and forged answers. Zero in process.
    pub stray_answers: u64,
    /// Waves held in the outbox because a receiver has requested a pause, as of the last check. They are included in
    /// the outbox's `queued` count.
    pub held: u64,
    /// The number of times this process paused at the request of a receiver.
    pub pauses: u64,
}
