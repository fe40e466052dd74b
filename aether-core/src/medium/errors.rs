//! Why a medium did not do what it was asked for.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::channel::{Channel, ChannelError};
use crate::inbox::ShedReason;
use crate::router::NotStored;
use crate::source::WaveId;
use crate::wave::{Wave, WaveError};

/// The reason why joining a pattern failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The medium was closed.
    #[error("the medium is closed")]
    Closed,
    /// The receiver was dropped, so the pattern no longer has a receiver.
    #[error("the receiver was dropped")]
    Dropped,
    /// The pattern or the group name is invalid.
    #[error(transparent)]
    Invalid(#[from] ChannelError),
    /// An observer cannot join a group, because it would take waves away from the members that process them.
    #[error("an observer cannot be a member of the group {group}")]
    Observer {
        /// The group.
        group: Channel,
    },
    /// The medium does not support groups; see [`Promises::groups`](super::Promises::groups).
    #[error("the medium has no groups: cannot be a member of the group {group}")]
    NoGroups {
        /// The group.
        group: Channel,
    },
    /// The [guard](super::Guard) of this process refuses the pattern.
    #[error(transparent)]
    NotAllowed(Box<ForeignError>),
    /// The vibrator has as many patterns already as it may have. A pattern that it hears in several groups counts once
    /// for each.
    #[error("a vibrator hears at most {most} patterns: use wider patterns, or another vibrator")]
    TooManyPatterns {
        /// The most patterns.
        most: usize,
    },
    /// This process has as many subscriptions already as its peers on a local network take.
    #[error(
        "a process on a local network has at most {most} subscriptions, in {most_bytes} bytes of patterns: use wider patterns"
    )]
    TooMany {
        /// The most subscriptions.
        most: usize,
        /// The most bytes, each subscription with 128 more than its pattern and its group.
        most_bytes: usize,
    },
    /// Some peers on a local network did not confirm the subscription; peers without room for it do not.
    /// Their waves may not arrive.
    #[error(
        "{} did not confirm the subscription within {within:?}: their tables of peers may be full",
        peers.join(", ")
    )]
    Unconfirmed {
        /// Some of them, by name and number.
        peers: Vec<String>,
        /// The time waited.
        within: Duration,
    },
    /// The server does not permit the subscription.
    #[error("the server does not permit to subscribe to {subject}: allow it in the permissions of this user")]
    NotPermitted {
        /// The subject.
        subject: String,
    },
    /// The broker's client rejected the subscription.
    #[error("the broker's client did not take the subscription")]
    Client(#[source] Box<dyn Error + Send + Sync>),
}

/// An error of a medium or of a guard, which this crate does not know. It shows as that error, and has its source.
#[derive(Debug)]
pub struct ForeignError {
    error: Box<dyn Error + Send + Sync>,
    is_transient: bool,
}

impl ForeignError {
    /// An error that stays until somebody changes something.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), is_transient: false }
    }

    /// The same error, where trying again may succeed.
    #[must_use]
    pub fn transient(mut self, is_transient: bool) -> Self {
        self.is_transient = is_transient;
        self
    }

    /// Whether trying again may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// The error as the type that it has in its own crate.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }
}

impl fmt::Display for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for ForeignError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
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
    /// The [guard](super::Guard) of this process refuses the wave.
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
    /// The wave is for later or unique, and no log keeps its channel.
    #[error(
        "the wave is for later or unique, and no log keeps {}: connect by a durable log, and make this one of its channels",
        wave.channel()
    )]
    NotKept {
        /// The wave that was not emitted.
        wave: Wave,
    },
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
    pub fn into_wave(mut self) -> Option<Wave> {
        self.wave_mut().cloned()
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
            | Self::NotKept { wave }
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
        source: Box<dyn Error + Send + Sync>,
    },
    /// The broker's client failed.
    #[error("the broker's client failed")]
    Client(#[source] Box<dyn Error + Send + Sync>),
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
        "{waves} waves were not sent: since the connection was restored, the broker takes only smaller ones"
    )]
    Unsendable {
        /// The number of waves.
        waves: u64,
    },
}

/// Why a wave is not known to have reached the broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// The wave was not emitted.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The wave was emitted, but it has not left this process and will not: the outbox shed it.
    #[error("wave {id} was shed before it left the outbox")]
    Shed {
        /// The wave.
        id: WaveId,
        /// Why it was shed. `None` if the medium only knows that its outbox shed a wave meanwhile.
        reason: Option<ShedReason>,
    },
    /// The server refused the wave, because it does not permit this program to publish on its channel.
    #[error("the server does not permit to publish on {channel}, where wave {id} was emitted")]
    NotPermitted {
        /// The wave.
        id: WaveId,
        /// Its channel.
        channel: Channel,
    },
    /// The wave was emitted, and nobody knows whether it has reached the broker. It may still be sent.
    #[error("wave {id} was not confirmed")]
    Unconfirmed {
        /// The wave.
        id: WaveId,
        /// How the wait ended.
        source: FlushError,
    },
}
