//! The seam: what carries waves between vibrators, and what it promises.
//!
//! A medium crosses process borders or does not; matching, queueing and counting are the router's and the inboxes'
//! work on every medium. The local medium *is* the router. Services never use this trait: they use
//! [`Aether`](crate::Aether) and [`Vibrator`](crate::Vibrator).

mod connect;
mod local;
#[cfg(feature = "nats")]
pub(crate) mod nats;

pub use crate::aether::Connection;
pub use crate::router::{Carried, Heard, Lost, Offered, Router, Subscription, Waiting};
pub use connect::{ConnectError, Wire, WireError, without_secrets};
pub(crate) use local::Local;
pub use local::LocalOptions;
#[cfg(feature = "nats")]
pub use nats::NatsOptions;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::channel::{Channel, ChannelError};
use crate::inbox::Ledger;
use crate::wave::{Wave, WaveError};

/// What a medium can do, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promises {
    /// Waves of one source, channel and amplitude arrive in the order in which they were emitted.
    pub ordered: bool,
    /// A wave that was taken survives the end of the process. No medium promises that yet.
    pub durable: bool,
    /// Of the members of a group each wave reaches exactly one.
    pub groups: bool,
    /// Vibrators in other processes hear the waves.
    pub crosses_processes: bool,
    /// Commands and queries that nobody but observers hears come back to their source.
    pub reflects_unheard: bool,
    /// Emitters wait for receivers whose options say so, wherever these are: a plain loop into a receiver that is slower,
    /// but not stuck, loses nothing.
    pub back_pressure: bool,
    /// The most bytes that a wave may have on this medium: its payload in process, its frame over a network.
    pub max_payload: usize,
}

impl Promises {
    /// Ordered, with groups, reflecting what nobody hears, not durable, with back-pressure in process only; for
    /// implementors of media.
    #[must_use]
    pub const fn new(crosses_processes: bool, max_payload: usize) -> Self {
        Self {
            ordered: true,
            durable: false,
            groups: true,
            crosses_processes,
            reflects_unheard: true,
            back_pressure: !crosses_processes,
            max_payload,
        }
    }
}

/// How a medium is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MediumStatus {
    /// Whether waves cross now. Always true in process.
    pub connected: bool,
    /// How often the connection was made; 1 if it never broke.
    pub connects: u64,
    /// What was given to the medium and what became of it: `delivered` were handed to the network, `queued` wait. All
    /// zero in process, where there is no outbox.
    pub outbox: Ledger,
    /// Waves that were handed to the network and not confirmed by the broker when the connection broke or was closed: at
    /// most so many were lost there.
    pub unconfirmed: u64,
    /// Waves that were handed to the network and that the broker has not confirmed yet.
    pub in_flight: u64,
    /// Messages that the broker's client dropped before they reached the router, a lower bound, and requests for service
    /// discovery that were dropped because too many waited.
    pub dropped_by_client: u64,
    /// Messages that the broker's client received and nobody has taken from it: those that wait in its queues now, those
    /// that it dropped, and what came for a subscription that was just left. So when nothing is under way the client has
    /// dropped at most so many.
    pub untaken: u64,
    /// Messages that were no valid frame, or came on a name that is no channel.
    pub malformed: u64,
    /// Messages that said what cannot be true, because they are broken or somebody made them up in another's name: a
    /// position in a stream that its sender cannot have reached, a time of sending that its sender's next frames
    /// contradict, a marker or a word of the server that is none. What they said was left out; their waves were not.
    pub implausible: u64,
    /// Waves that were never given to the medium: their emitters respect the floors of the receivers, and all of those
    /// had said that they would not hear them. Counted by [`Aether::status`](crate::Aether::status), not by media.
    pub shed_at_source: u64,
    /// Waves that were sent to the subscriptions of this process and lost on the way, wherever that was; one that two
    /// patterns would have brought counts twice. [`Ledger::lost_upstream`](crate::Ledger) says whose they were, where
    /// that is known.
    pub lost_upstream: u64,
    /// Senders' channels that gaps are looked for in no longer, because too many others were used since.
    pub forgotten_streams: u64,
    /// Answers that nobody waited for: those that came after their asker had given up, further ones to the same question,
    /// and made-up ones. Zero in process.
    pub stray_answers: u64,
    /// Waves in the outbox that are held because a receiver has asked for a pause, as of the last look at it. They are
    /// among the `queued` of the outbox.
    pub held: u64,
    /// How often a receiver has asked this process to pause, and it did.
    pub pauses: u64,
}

/// How far a notice of the framework went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// Somebody hears its channel, and was handed it.
    Heard,
    /// Nobody but observers hears its channel.
    Nobody,
    /// It was not sent: the medium is closed, or the notice is too large for it.
    Unsent,
    /// The connection broke while it was under way.
    Unknown,
}

/// What carries waves. Object-safe and small; for implementors of media.
///
/// The contract, each line of which `conformance` checks by number:
///
/// 1. `carry` returning `Done`, or [`Waiting::finish`](crate::medium::Waiting::finish) returning, means that the wave is in
///    the inboxes of all who hear it in this process (media that do not cross processes), or in the medium's bounded
///    outbox or beyond. It never blocks the thread. Of those that wait for room the strongest is let in first, and the weak
///    are refused and made to wait before the strong; nothing that was taken is dropped for that. A wave that is
///    handed back has no number, and leaves no gap in those of its source.
/// 2. Waves of one source, channel and amplitude arrive in the order of their `carry` calls, at every receiver. One that
///    is still `Waiting` when the next is carried may be overtaken by it, and so may one that a member of a group gets in
///    the place of another that has left.
/// 3. A wave is offered exactly once to each inbox that hears its channel, however many of the inbox's patterns
///    match, and to exactly one member of each group. All members get their share, on whatever channels and whoever else
///    comes and goes; in process they take turns, and one that is full is passed over while another one has room.
/// 4. `join` returning Ok means: every wave carried afterwards, by anyone, reaches the subscription. After `leave`
///    nothing more reaches it.
/// 5. A question reaches those who hear its channel; the first answer completes `ask`. When nobody but observers hears
///    the channel `ask` fails with `NoResonator` at once, not after the patience. Observers of the channel get each
///    question, and the answer that the asker got, at most once and once if nothing is overloaded: without a way to
///    answer, and without keeping the way of others open.
/// 6. What is larger than `max_payload` is handed back as `TooLarge`, and nothing else is affected.
/// 7. A slow receiver whose inbox sheds affects nobody else: what it cannot take is shed there and counted. An observer
///    makes nobody wait at all, and
///    `offered = delivered + shed + expired + lost_upstream + queued` holds.
/// 8. After `close` returned, what was taken before has been delivered or sent, `carry` hands waves back as `Closed`,
///    and `join`, `ask` and `flush` fail with `Closed`. Receivers that are made afterwards end at once.
/// 9. While a network is away `carry` goes on taking waves into its outbox, sheds the weakest when that is full, and
///    counts them; afterwards all subscriptions are in force again by themselves. What was lost on the way to a
///    receiver is counted there as `lost_upstream`, at the latest when something follows it, and not for those who
///    joined later; members of groups are excepted.
/// 10. Every async method is cancel safe: dropped before completion it leaves nothing half done; a wave is carried
///     whole or not at all.
/// 11. What comes from the network and is not a frame of this protocol either arrives as a wave with default values,
///     or is counted as malformed; it never ends the medium.
/// 12. `tell` carries notices of the framework, which are waves on reserved channels, to all who hear them but
///     observers, past the outbox and without making anybody wait, and says of each whether anybody hears its channel.
///     It is in no outbox ledger. A command or query that was carried and that nobody but observers hears is reflected,
///     if the medium promises that.
/// 13. If the medium promises back-pressure: emitters wait for receivers whose options say so, wherever these are. A plain
///     loop into a receiver that is slower and makes progress loses nothing, except what exceeds bounds that the
///     medium documents. Stronger waves, and waves of other channels, pass those that wait. A receiver that is
///     stuck delays its emitters once and not with every wave; one that goes or is cut off does not hold them up.
pub trait Medium: Debug + Send + Sync + 'static {
    /// What this medium can do.
    fn promises(&self) -> Promises;

    /// Takes a wave that has been stamped.
    ///
    /// # Errors
    /// [`EmitError`] with the wave: too large or closed.
    fn carry(&self, wave: Wave) -> Result<Carried, EmitError>;

    /// The same without waiting: where an inbox or the outbox is full and `carry` would return `Waiting`, it takes nothing
    /// and hands the wave back as `Full`.
    ///
    /// # Errors
    /// [`EmitError`] with the wave: full, too large or closed.
    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError>;

    /// Brings what a new subscription hears from now on. The router knows the subscription already.
    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>>;

    /// Stops bringing it. The router has forgotten the subscription already.
    fn leave(&self, subscription: &Subscription);

    /// Carries a question and waits for the first answer. All of that takes at most `patience`.
    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>>;

    /// Carries notices of the framework, each of them once at most, and says how far each went, in their order. Waits
    /// for as long as the connection is away.
    fn tell(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>>;

    /// Waits until everything taken so far has left the process and, on a network, was seen by the broker; bounded in
    /// time. Closed, it fails.
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>>;

    /// Flushes, bounded in time, and ends. Calling it again is not an error.
    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>>;

    /// How it is doing, with its accounts.
    fn status(&self) -> MediumStatus;

    /// Changes when the connection breaks or is back, to whether it stands; and once more, to true, when the medium was
    /// closed. `None`, the default, for a medium without a connection.
    fn connection(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        None
    }
}

/// Why a wave was not taken; holds the wave.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// An inbox (in process) or the outbox (network) has no room for a wave of this strength, and the caller did not want
    /// to wait.
    #[error("no room: a receiver or the outbox is full")]
    Full {
        /// What was not emitted.
        wave: Wave,
    },
    /// The medium was closed.
    #[error("the medium is closed")]
    Closed {
        /// What was not emitted.
        wave: Wave,
    },
    /// Larger than the medium takes.
    #[error("the wave has {bytes} bytes: the medium takes at most {max_bytes}")]
    TooLarge {
        /// What was not emitted.
        wave: Wave,
        /// Its size on this medium.
        bytes: usize,
        /// The largest size.
        max_bytes: usize,
    },
    /// Relayed as often as is allowed.
    #[error("the wave was relayed {} times already: at most {} are allowed", wave.hops(), crate::wave::MAX_HOPS)]
    TooFar {
        /// What was not emitted.
        wave: Wave,
    },
    /// The channel belongs to the framework.
    #[error("channel {} is reserved for the framework", wave.channel())]
    Reserved {
        /// What was not emitted.
        wave: Wave,
    },
    /// Nobody would have heard it: all receivers of the channel are overloaded and have said from which strength on
    /// they hear. Only for emitters that [respect floors](crate::VibratorBuilder::respect_floor).
    #[error("the wave is weaker than {floor:?}, below which no receiver of {} hears", wave.channel())]
    BelowFloor {
        /// What was not emitted.
        wave: Wave,
        /// The lowest floor of the receivers.
        floor: crate::amplitude::Floor,
    },
    /// The wave could not be made; there is none to hand back.
    #[error("the wave could not be made")]
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
            | Self::Reserved { wave } => Some(wave),
            Self::Invalid(_) => None,
        }
    }

    /// The wave, to be changed.
    pub(crate) fn wave_mut(&mut self) -> Option<&mut Wave> {
        match self {
            Self::Full { wave }
            | Self::Closed { wave }
            | Self::TooLarge { wave, .. }
            | Self::TooFar { wave }
            | Self::BelowFloor { wave, .. }
            | Self::Reserved { wave } => Some(wave),
            Self::Invalid(_) => None,
        }
    }

    /// Whether the same wave may be taken later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::BelowFloor { .. })
    }
}

/// Why a pattern is not heard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The medium was closed.
    #[error("the medium is closed")]
    Closed,
    /// The receiver was dropped, so nobody is left to hear the pattern.
    #[error("the receiver was dropped")]
    Dropped,
    /// The pattern or the name of the group is not valid.
    #[error("invalid pattern or group")]
    Invalid(#[from] ChannelError),
    /// An observer would take waves from those members who work on them.
    #[error("an observer cannot be a member of the group {group}")]
    Observer {
        /// The group.
        group: Channel,
    },
    /// The broker's client refused.
    #[error("the broker's client did not take the subscription")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens on the channel.
    #[error("nobody listens on {channel}")]
    NoResonator {
        /// Where it was asked.
        channel: Channel,
    },
    /// Everyone who got the question let go of it without an answer. Known in process only.
    #[error("all who heard the question on {channel} dropped it without an answer")]
    Unanswered {
        /// Where it was asked.
        channel: Channel,
    },
    /// Whoever was asked answered that there is no answer, and why.
    #[error("whoever answers on {channel} failed")]
    Failed {
        /// Where it was asked.
        channel: Channel,
        /// What it said.
        source: crate::wave::Failure,
    },
    /// No answer within the patience.
    #[error("no answer on {channel} within {patience:?}")]
    TimedOut {
        /// Where it was asked.
        channel: Channel,
        /// How long was waited.
        patience: Duration,
    },
    /// The medium did not take the question.
    #[error("the question was not sent")]
    Emit(#[from] EmitError),
    /// Too many questions of this connection wait for an answer. Known over a network only.
    #[error("the question on {channel} was not asked: {most} others wait for an answer")]
    TooMany {
        /// Where it was to be asked.
        channel: Channel,
        /// How many may wait at the same time.
        most: usize,
    },
    /// The answer that came is not a valid frame.
    #[error("the answer on {channel} is malformed")]
    Malformed {
        /// Where it was asked.
        channel: Channel,
        /// What is wrong with it.
        source: crate::wire::FrameError,
    },
    /// The broker's client failed.
    #[error("the broker's client failed")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AskError {
    /// Whether asking again may help.
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
            Self::Malformed { .. } => false,
        }
    }
}

impl From<WaveError> for AskError {
    fn from(error: WaveError) -> Self {
        Self::Emit(EmitError::Invalid(error))
    }
}

/// Why not everything has left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The medium was closed before.
    #[error("the medium is closed")]
    Closed,
    /// The broker has not confirmed so many waves: they still wait, or were under way when the connection broke and may be
    /// lost.
    #[error(
        "the broker did not confirm {waves} waves, as the connection broke or {patience:?} were not enough"
    )]
    Unconfirmed {
        /// How many.
        waves: u64,
        /// How long was waited, without any progress or in all.
        patience: Duration,
    },
    /// The broker has confirmed all waves and then did not answer any more: it may not know yet what was left, and
    /// receivers may not know yet what they have missed.
    #[error("all waves were confirmed, but then the broker did not answer for {patience:?}")]
    Unanswered {
        /// How long was waited.
        patience: Duration,
    },
    /// So many waves were not sent, because they are larger than the broker takes: it took more when they were emitted.
    /// Each was reported to its source if it is of a kind that is, and counts as
    /// [`unsendable`](crate::ShedReason::Unsendable). Each is named once, by the first flush that ends afterwards.
    #[error(
        "{waves} waves were not sent: the broker takes smaller ones only since the connection was made anew"
    )]
    Unsendable {
        /// How many.
        waves: u64,
    },
}
