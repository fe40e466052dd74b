//! The status of a medium: what it counts, and why messages were refused.

use std::any::Any;

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
    /// Messages that were refused because they are not sealed, while this process seals.
    pub refused_plain: u64,
    /// Messages that were refused because this process does not have the key with which they say they are sealed.
    pub refused_unknown_key: u64,
    /// Messages that were refused because they are not authentic: altered, cut, moved to another channel, or made without
    /// the key.
    pub refused_tampered: u64,
    /// Messages that were refused because they had been received before.
    pub refused_replayed: u64,
    /// Messages that were refused because they were sealed too long ago, or by a wrong clock.
    pub refused_stale: u64,
    /// Messages that were refused because they are sealed, while this process has no keys.
    pub refused_sealed: u64,
    /// Messages that were refused because they are not signed, while this process has a list of signers.
    pub refused_unsigned: u64,
    /// Messages that were refused because they are signed with a key that is not on the list.
    pub refused_unknown_signer: u64,
    /// Messages that were refused because their signature is wrong: somebody with the keys of sealed waves altered
    /// them, moved them, or made them without the key that signs.
    pub refused_forged: u64,
    /// Messages, and parts of notices of the framework, that were refused because they use a name that their signer may not
    /// use.
    pub refused_misnamed: u64,
    /// Waves from other processes that the guard of this process refused.
    pub refused_by_rules: u64,
    /// Waves from other processes that do not fit the schema of their channel.
    pub refused_by_schema: u64,
    /// Messages and subscriptions of this process that the server refused, because its user lacks a permission. A lower
    /// bound: the client drops notices of the server when there are many at once. A message can have many waves.
    pub refused_by_server: u64,
}

impl MediumStatus {
    /// The messages that were refused because they are not sealed with a key of this process, or because they are replays,
    /// and the waves that rules or schemas refused, by reason; and what the server refused from this process.
    #[must_use]
    pub const fn refusals(&self) -> [(&'static str, u64); 13] {
        [
            ("plain", self.refused_plain),
            ("unknown_key", self.refused_unknown_key),
            ("tampered", self.refused_tampered),
            ("replayed", self.refused_replayed),
            ("stale", self.refused_stale),
            ("sealed", self.refused_sealed),
            ("unsigned", self.refused_unsigned),
            ("unknown_signer", self.refused_unknown_signer),
            ("forged", self.refused_forged),
            ("misnamed", self.refused_misnamed),
            ("rules", self.refused_by_rules),
            ("schema", self.refused_by_schema),
            ("server", self.refused_by_server),
        ]
    }

    /// The sum of two media that share an outbox, which is left out.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            connected: self.connected || other.connected,
            connects: self.connects + other.connects,
            outbox: Ledger::default(),
            unconfirmed: self.unconfirmed + other.unconfirmed,
            in_flight: self.in_flight + other.in_flight,
            dropped_by_client: self.dropped_by_client + other.dropped_by_client,
            untaken: self.untaken + other.untaken,
            malformed: self.malformed + other.malformed,
            implausible: self.implausible + other.implausible,
            shed_at_source: self.shed_at_source + other.shed_at_source,
            lost_upstream: self.lost_upstream + other.lost_upstream,
            forgotten_streams: self.forgotten_streams + other.forgotten_streams,
            stray_answers: self.stray_answers + other.stray_answers,
            held: self.held + other.held,
            pauses: self.pauses + other.pauses,
            refused_plain: self.refused_plain + other.refused_plain,
            refused_unknown_key: self.refused_unknown_key + other.refused_unknown_key,
            refused_tampered: self.refused_tampered + other.refused_tampered,
            refused_replayed: self.refused_replayed + other.refused_replayed,
            refused_stale: self.refused_stale + other.refused_stale,
            refused_sealed: self.refused_sealed + other.refused_sealed,
            refused_unsigned: self.refused_unsigned + other.refused_unsigned,
            refused_unknown_signer: self.refused_unknown_signer + other.refused_unknown_signer,
            refused_forged: self.refused_forged + other.refused_forged,
            refused_misnamed: self.refused_misnamed + other.refused_misnamed,
            refused_by_rules: self.refused_by_rules + other.refused_by_rules,
            refused_by_schema: self.refused_by_schema + other.refused_by_schema,
            refused_by_server: self.refused_by_server + other.refused_by_server,
        }
    }

    /// The sum of [`refusals`](Self::refusals).
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refusals().iter().map(|(_, messages)| messages).sum()
    }
}

/// Values that media have added, of types of their own; see [`Medium::details`](super::Medium::details).
#[derive(Debug, Default)]
pub struct Details(Vec<Box<dyn Any + Send + Sync>>);

impl Details {
    /// Adds a value.
    pub fn add<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.push(Box::new(value));
    }

    /// The values of one type, in the order in which they were added.
    pub(crate) fn into_values<T: Send + Sync + 'static>(self) -> Vec<T> {
        self.0.into_iter().filter_map(|value| value.downcast().ok()).map(|value| *value).collect()
    }
}
