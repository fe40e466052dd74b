//! The medium interface: what carries waves between vibrators, and what it guarantees.
//!
//! A medium may or may not cross process boundaries. On every medium, the router and the inboxes do the matching,
//! queueing and counting. The local medium *is* the router. Services never use this trait directly. They use
//! [`Aether`](crate::Aether) and [`Vibrator`](crate::Vibrator).

mod addresses;
mod confirming;
mod connect;
mod details;
mod foreign_error;
mod guard;
mod join_error;
mod layers;
mod local;
mod promises;
mod schemes;
mod status;
mod wire_format;

pub use crate::aether::Connection;
pub use crate::named::Named;
pub use crate::proof::{NodeId, Proof, Rated};
pub use crate::router::{
    Arrival, ArrivalFilter, BatchSettled, Carried, Crowded, Heard, Listener, Lost, MOST_TOGETHER, NotStored,
    Offered, Relabel, Router, Settled, Stored, StoredRange, Subscription, Waiting,
};
pub use crate::shares::{ShareSizes, Shares, UNPROVEN};
pub use crate::source::Sequencer;
pub use crate::wave::{Received, ReplyError, ReplyPath};
pub use addresses::{addresses_in, without_secrets};
pub use confirming::ConfirmError;
pub(crate) use connect::MediumOptions;
pub use connect::{ConnectError, ConnectRequest, LocalVibrator, LocalVibrators};
pub use details::Details;
pub use foreign_error::ForeignError;
pub use guard::{Guard, OnRevoked};
pub use join_error::JoinError;
pub(crate) use layers::Layers;
pub use local::{Local, LocalOptions};
pub use promises::Promises;
pub(crate) use schemes::{SEVERAL, Schemes};
pub use status::MediumStatus;
pub use wire_format::{Wire, WireError};

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::channel::Channel;
use crate::wave::{Wave, WaveError};

/// How far a framework notice got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// The channel has a receiver, and the notice was handed to it.
    Delivered,
    /// The channel has no receivers except observers.
    NoListener,
    /// The notice was not sent: the medium is closed, or the notice is too large for it.
    Unsent,
    /// The connection broke while the notice was in transit, or a report that the channel has no receivers could not be
    /// verified.
    Unknown,
}

/// Carries waves. Object-safe and small; for implementors of media.
///
/// The contract. `conformance` checks each line by number:
///
/// 1. `carry` returning `Done`, or [`Waiting::finish`](crate::medium::Waiting::finish) returning, means that the wave
///    is in the inboxes of all its receivers in this process (media that do not cross processes), or in the medium's
///    bounded outbox or beyond. It never blocks the thread. Among waves that wait for room, the strongest is admitted
///    first. Weak waves are refused and made to wait before strong ones. Accepted waves are never dropped for this
///    purpose. A wave that is handed back has no number and leaves no gap in the numbers of its source.
/// 2. Waves of one source, channel and amplitude arrive at every receiver in the order of their `carry` calls. Three
///    exceptions: a wave that is still `Waiting` when the next one is carried may be overtaken by it, and so may a wave
///    that a group member receives in place of a member that has left, and one that went by a
///    path, of several media as one, that the next one does not take.
/// 3. A wave is offered exactly once to each inbox that hears its channel, however many of the inbox's patterns match.
///    It is offered to exactly one member of each group if the medium promises groups; otherwise `join` refuses members
///    with `NoGroups`. All members get their share, regardless of the channels used and of other members joining or
///    leaving. In process, members take turns, and a full member is skipped while another one has room.
/// 4. `join` returning Ok means that every wave carried afterwards, by any emitter, reaches the subscription. After
///    `leave`, nothing more reaches it.
/// 5. A question reaches all receivers of its channel, and the first answer completes `ask`. If the channel has no
///    receivers except observers, `ask` fails with `NoResonator` immediately, without waiting for the patience to
///    expire, provided that the medium promises this. Observers of the channel get each question, and the answer that
///    the asker got, at most once, and exactly once if nothing is overloaded. They cannot answer, and they do not keep
///    the reply path of other receivers open.
/// 6. A wave larger than `max_payload` is handed back as `TooLarge`, and nothing else is affected.
/// 7. A slow receiver whose inbox sheds affects no other receiver: waves that it cannot accept are shed there and
///    counted. An observer never makes emitters wait. `offered = delivered + shed + expired + lost_upstream + queued`
///    holds.
/// 8. When `close` has returned, all previously accepted waves have been delivered or sent, `carry` hands waves back as
///    `Closed`, and `join`, `ask` and `flush` fail with `Closed`. Receivers created afterwards end immediately.
/// 9. While a network is unavailable, `carry` continues to accept waves into its outbox, sheds the weakest when the
///    outbox is full, and counts the shed waves. When the network is back, all subscriptions are restored
///    automatically. Waves lost on the way to a receiver are counted there as `lost_upstream`, at the latest when
///    another wave follows. They are not counted for receivers that joined later, nor for members of groups.
/// 10. Every async method is cancel safe: dropping it before completion leaves nothing half done. A wave is carried
///     entirely or not at all.
/// 11. Network input that is not a frame of this protocol either arrives as a wave with default values or is counted as
///     malformed. It never ends the medium.
/// 12. `notify` carries framework notices, which are waves on reserved channels, to all their receivers except observers.
///     It bypasses the outbox and never makes emitters wait. For each notice it reports whether the channel has any
///     receivers, if the medium promises to detect that; otherwise it reports that the notice was sent (`Heard`).
///     Notices do not appear in any outbox ledger. A carried wave with no receivers except observers is reflected if
///     its source wants to be told, as for each command and query, and the medium promises that.
/// 13. If the medium promises back-pressure, emitters wait for receivers whose options request it, wherever the
///     receivers are. A plain emitting loop loses nothing when its receiver is slower but makes progress, except for
///     what exceeds bounds that the medium documents. Stronger waves, and waves of other channels, pass the waiting
///     ones. A stuck receiver delays its emitters once, not with every wave. A receiver that leaves or is disconnected
///     does not hold them up.
/// 14. `carry_confirmed` returning Ok means that the broker has received the wave; on a medium without a broker, it
///     means what `carry` means. The wait is bounded. A wave that the outbox sheds is an error, never Ok.
/// 15. `carry_all` does for each wave what `carry` does, in order. It stops at the first wave that is refused or has to
///     wait: the waves before that one were carried, and those behind it are left, or wait with it in their order. Waves that
///     are stored together wait together; each of them is stored or refused.
pub trait Medium: Debug + Send + Sync + 'static {
    /// The capabilities of this medium.
    fn promises(&self) -> Promises;

    /// Accepts a stamped wave.
    ///
    /// # Errors
    /// [`EmitError`] with the wave: too large or closed.
    fn carry(&self, wave: Wave) -> Result<Carried, EmitError>;

    /// Like `carry`, but never waits: if an inbox or the outbox is full and `carry` would return `Waiting`, this method
    /// accepts nothing and hands the wave back as `Full`.
    ///
    /// # Errors
    /// [`EmitError`] with the wave: full, too large or closed.
    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError>;

    /// How many stamped waves like this one should be carried together now, at least 1: no more than find room without
    /// waiting, and no more than is worth it. A medium that stores waves has one write and one sync for them. A hint, which
    /// may be outdated when it is used; more than 4096 are never carried together.
    fn room_for(&self, _: &Wave) -> usize {
        1
    }

    /// Accepts stamped waves, and removes those that it accepts. The default carries them one by one.
    ///
    /// # Errors
    /// [`EmitError`] with the first wave that was refused, which is removed as well. Call it again for the others.
    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        while let Some(wave) = waves.pop_front() {
            if let Carried::Waiting(waiting) = self.carry(wave)? {
                return Ok(Some(waiting));
            }
        }
        Ok(None)
    }

    /// Starts delivery to a new subscription. The router already has the subscription.
    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>>;

    /// Stops delivery to a subscription. The router has already removed the subscription.
    fn leave(&self, subscription: &Subscription);

    /// Carries a question and waits for the first answer, for at most `patience` in total.
    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>>;

    /// Carries framework notices, each at most once, and reports how far each one got, in the same order. Waits for as
    /// long as the connection is down.
    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>>;

    /// Waits until everything accepted so far has left the process and, on a network, was received by the broker. The
    /// wait is bounded. Fails if the medium is closed.
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>>;

    /// Accepts a stamped wave, and waits until the broker has received it.
    ///
    /// The default is `carry` and then `flush`, so it waits for all earlier waves as well, and it fails if the outbox
    /// shed any wave meanwhile, because it does not know which one. A medium whose `flush` returns at once needs nothing
    /// else. A medium that can tell its waves apart does better.
    ///
    /// # Errors
    /// [`ConfirmError`]: the wave was not accepted, was shed, or is not known to have arrived.
    fn carry_confirmed(&self, wave: Wave) -> BoxFuture<'_, Result<Settled, ConfirmError>> {
        Box::pin(confirming::carry_and_flush(self, wave))
    }

    /// Flushes within a bounded time, then ends the medium. Calling it again is not an error.
    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>>;

    /// The status of the medium, with its accounts.
    fn status(&self) -> MediumStatus;

    /// Changes to false when the connection breaks, to true when it is restored, and once more to true when the medium
    /// is closed. `None`, the default, for a medium without a connection.
    fn connection(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        None
    }

    /// Whether this process can reach others by the medium, for the choice among several
    /// paths. The default is [`connection`](Self::connection). A medium that is connected also
    /// while nobody else is there, such as a network without a server, does better.
    fn reaches_others(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        self.connection()
    }

    /// Whether waves of this channel are kept for receivers that come later, as a durable log does. Such a wave has a receiver,
    /// and is not reflected because nobody hears it now.
    fn keeps(&self, _channel: &Channel) -> bool {
        false
    }

    /// Adds what this medium knows beyond its status, as values of types of its own; a medium around another one asks that one,
    /// too. [`Aether::details`](crate::Aether::details) finds them by their type. The default adds nothing.
    fn details(&self, _into: &mut Details) {}
}

/// The reason why a wave was not accepted. Contains the wave.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// An inbox (in process) or the outbox (network) has no room for a wave of this strength, and the caller did not
    /// want to wait.
    #[error("no room: a receiver or the outbox is full")]
    Full {
        /// The wave that was not emitted.
        wave: Wave,
    },
    /// The medium was closed.
    #[error("the medium is closed")]
    Closed {
        /// The wave that was not emitted.
        wave: Wave,
    },
    /// The wave is larger than the medium accepts.
    #[error("the wave has {bytes} bytes: the medium takes at most {max_bytes}")]
    TooLarge {
        /// The wave that was not emitted.
        wave: Wave,
        /// The size of the wave on this medium.
        bytes: usize,
        /// The maximum size.
        max_bytes: usize,
    },
    /// The wave has already been relayed the maximum number of times.
    #[error("the wave was relayed {} times already: at most {} are allowed", wave.hops(), crate::wave::MAX_HOPS)]
    TooFar {
        /// The wave that was not emitted.
        wave: Wave,
    },
    /// The channel belongs to the framework.
    #[error("channel {} is reserved for the framework", wave.channel())]
    Reserved {
        /// The wave that was not emitted.
        wave: Wave,
    },
    /// The wave would not have reached any receiver: all receivers of the channel are overloaded and have announced the
    /// minimum strength that they accept. Only for emitters that [respect
    /// floors](crate::VibratorBuilder::respect_floor).
    #[error("the wave is weaker than {floor:?}, below which no receiver of {} hears", wave.channel())]
    BelowFloor {
        /// The wave that was not emitted.
        wave: Wave,
        /// The lowest floor of the receivers.
        floor: crate::amplitude::Floor,
    },
    /// The [guard](Guard) of this process refuses the wave.
    #[error("the wave was not emitted: {refusal}")]
    NotAllowed {
        /// The wave that was not emitted.
        wave: Wave,
        /// Why, and what is allowed.
        refusal: Box<ForeignError>,
    },
    /// The channel is durable, and the wave was not stored.
    #[error(transparent)]
    NotStored(#[from] NotStored),
    /// The emitter has emitted as many waves as its limit allows, and the wave's turn did not come in time. Only for
    /// emitters with a [rate](crate::VibratorBuilder::rate).
    #[error("the wave was not emitted: its emitter has reached the rate that it is limited to")]
    RateLimited {
        /// The wave that was not emitted.
        wave: Wave,
    },
    /// The wave could not be created, so there is none to hand back.
    #[error(transparent)]
    Invalid(#[from] WaveError),
}

impl EmitError {
    /// The wave that was not emitted, if there is one.
    #[must_use]
    pub fn into_wave(self) -> Option<Wave> {
        match self {
            Self::Full { wave }
            | Self::Closed { wave }
            | Self::TooLarge { wave, .. }
            | Self::TooFar { wave }
            | Self::BelowFloor { wave, .. }
            | Self::RateLimited { wave }
            | Self::NotAllowed { wave, .. }
            | Self::Reserved { wave } => Some(wave),
            Self::NotStored(NotStored { wave, .. }) => Some(wave),
            Self::Invalid(_) => None,
        }
    }

    /// Mutable access to the wave, if there is one: a library that moved it to another channel moves it back.
    pub fn wave_mut(&mut self) -> Option<&mut Wave> {
        match self {
            Self::Full { wave }
            | Self::Closed { wave }
            | Self::TooLarge { wave, .. }
            | Self::TooFar { wave }
            | Self::BelowFloor { wave, .. }
            | Self::RateLimited { wave }
            | Self::NotAllowed { wave, .. }
            | Self::Reserved { wave } => Some(wave),
            Self::NotStored(NotStored { wave, .. }) => Some(wave),
            Self::Invalid(_) => None,
        }
    }

    /// Whether the same wave may be accepted later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::NotStored(error) => error.is_transient,
            Self::NotAllowed { refusal, .. } => refusal.is_transient(),
            error => {
                matches!(error, Self::Full { .. } | Self::BelowFloor { .. } | Self::RateLimited { .. })
            }
        }
    }
}

/// The reason why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The channel has no listeners.
    #[error("nobody listens on {channel}")]
    NoResonator {
        /// The channel of the question.
        channel: Channel,
    },
    /// All receivers of the question dropped it without an answer. Only detected in process.
    #[error("all who heard the question on {channel} dropped it without an answer")]
    Unanswered {
        /// The channel of the question.
        channel: Channel,
    },
    /// The responder replied that there is no answer, with the reason.
    #[error("the question on {channel} was answered with a failure: {source}")]
    Failed {
        /// The channel of the question.
        channel: Channel,
        /// The failure that the responder reported.
        source: crate::wave::Failure,
    },
    /// No answer arrived within the patience.
    #[error("no answer on {channel} within {patience:?}")]
    TimedOut {
        /// The channel of the question.
        channel: Channel,
        /// The time waited.
        patience: Duration,
    },
    /// The medium did not accept the question.
    #[error("the question was not sent")]
    Emit(#[from] EmitError),
    /// Too many questions of this connection are waiting for answers. Only detected over a network.
    #[error("the question on {channel} was not asked: {most} others wait for an answer")]
    TooMany {
        /// The channel of the question.
        channel: Channel,
        /// The maximum number of questions that can wait at the same time.
        most: usize,
    },
    /// The server does not permit the question.
    #[error(
        "the server does not permit to ask on {channel}: allow publishing to {subject} in the permissions of this user"
    )]
    NotPermitted {
        /// The channel of the question.
        channel: Channel,
        /// The subject that was refused.
        subject: String,
    },
    /// The answer is not a valid frame.
    #[error("the answer on {channel} is malformed")]
    Malformed {
        /// The channel of the question.
        channel: Channel,
        /// The error in the frame.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker's client failed.
    #[error("the broker's client failed")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AskError {
    /// Whether asking again may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::NoResonator { .. }
            | Self::Unanswered { .. }
            | Self::TimedOut { .. }
            | Self::TooMany { .. }
            | Self::Client(_) => true,
            Self::Failed { source, .. } => source.reason.is_transient(),
            Self::Emit(error) => error.is_transient(),
            Self::Malformed { .. } | Self::NotPermitted { .. } => false,
        }
    }
}

impl From<Infallible> for EmitError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<WaveError> for AskError {
    fn from(error: WaveError) -> Self {
        Self::Emit(EmitError::Invalid(error))
    }
}

/// The reason why a flush is incomplete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The medium was already closed.
    #[error("the medium is closed")]
    Closed,
    /// The broker has not confirmed this number of waves. They are still waiting, or were in transit when the
    /// connection broke and may be lost.
    #[error(
        "the broker did not confirm {waves} waves, as the connection broke or {patience:?} were not enough"
    )]
    Unconfirmed {
        /// The number of waves.
        waves: u64,
        /// The time waited, either without any progress or in total.
        patience: Duration,
    },
    /// The broker confirmed all waves and then stopped responding. It may not have processed all unsubscriptions yet,
    /// and receivers may not have been notified of waves they missed yet.
    #[error("all waves were confirmed, but then the broker did not answer for {patience:?}")]
    Unanswered {
        /// The time waited.
        patience: Duration,
    },
    /// Some processes of the local network were there when this one connected, and have not answered it. They may not have
    /// received everything. For a minute after connecting.
    #[error(
        "{processes} processes of this network have not answered and may have missed waves: their clocks differ by more \
         than a minute, or a firewall keeps them apart"
    )]
    Unmet {
        /// The number of processes.
        processes: usize,
    },
    /// These waves were not sent because they exceed the broker's current limit. The limit was higher when they were
    /// emitted. Each was reported to its source if waves of its kind are reported, and counts as
    /// [`unsendable`](crate::ShedReason::Unsendable). Each is reported by one flush only, the first one to end
    /// afterwards.
    #[error(
        "{waves} waves were not sent: the broker takes smaller ones only since the connection was made anew"
    )]
    Unsendable {
        /// The number of waves.
        waves: u64,
    },
}
