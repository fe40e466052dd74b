//! The medium interface: what carries waves between vibrators, and what it guarantees.
//!
//! A medium may or may not cross process boundaries. On every medium, the router and the inboxes do the matching,
//! queueing and counting. The local medium *is* the router. Services never use this trait directly. They use
//! [`Aether`](crate::Aether) and [`Vibrator`](crate::Vibrator).

pub(crate) mod connect;
pub(crate) mod errors;
pub(crate) mod local;
mod status;

pub use crate::aether::Connection;
pub use crate::proof::{Named, NodeId, Proof, Rated, ShareSizes, UNPROVEN};
pub use crate::router::{
    Arrival, ArrivalFilter, BatchSettled, Carried, Crowded, Heard, Listener, Lost, MOST_TOGETHER, NotStored,
    Offered, Relabel, Router, Settled, Stored, StoredRange, Subscription, Waiting,
};
pub use crate::source::Sequencer;
pub(crate) use connect::ConnectError;
pub use connect::{
    ConnectRequest, LocalVibrator, LocalVibrators, Wire, WireError, addresses_in, without_secrets,
};
pub(crate) use connect::{Layer, MediumOptions, SEVERAL, Schemes};
pub use errors::ForeignError;
pub(crate) use errors::{AskError, ConfirmError, EmitError, FlushError, JoinError};
pub use local::Local;
pub(crate) use local::LocalOptions;
pub use status::{Details, MediumStatus};

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::channel::{Channel, Pattern};
use crate::wave::Wave;

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
///    that a group member receives in place of a member that has left, and one that went by a path, of several media
///    as one, that the next one does not take.
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
///     wait: the waves before that one were carried, and those behind it are left, or wait with it in their order.
///     Waves that are stored together wait together; each of them is stored or refused.
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
        Box::pin(carry_and_flush(self, wave))
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

    /// Whether waves of this channel are kept for receivers that come later, as a durable log does. Such a wave has a
    /// receiver, and is not reflected because nobody hears it now.
    fn keeps(&self, _channel: &Channel) -> bool {
        false
    }

    /// Adds what this medium knows beyond its status, as values of types of its own; a medium around another one asks
    /// that one, too. [`Aether::details`](crate::Aether::details) finds them by their type. The default adds nothing.
    fn details(&self, _into: &mut Details) {}
}

/// The default of [`Medium::carry_confirmed`].
async fn carry_and_flush<M: Medium + ?Sized>(medium: &M, wave: Wave) -> Result<Settled, ConfirmError> {
    let (id, lost_before) = (wave.id(), medium.status().outbox.lost());
    let settled = match medium.carry(wave)? {
        Carried::Done(offered) => offered.into(),
        Carried::Waiting(waiting) => waiting.finish().await.map_err(EmitError::from)?,
    };
    let flushed = medium.flush().await;
    if medium.status().outbox.lost() > lost_before {
        return Err(ConfirmError::Shed { id, reason: None });
    }
    flushed.map(|()| settled).map_err(|source| ConfirmError::Unconfirmed { id, source })
}

/// The capabilities of a medium, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promises {
    /// Waves of one source, channel and amplitude arrive in the order in which they were emitted.
    pub ordered: bool,
    /// Accepted waves survive the end of the process. No medium promises this yet.
    pub durable: bool,
    /// Each wave reaches exactly one member of each group.
    pub groups: bool,
    /// It does so also while members come and go. If false, a wave reaches exactly one member while the membership is
    /// stable, and at most one while it changes: a wave on its way to a process that dies is lost.
    pub exact_groups: bool,
    /// Waves reach vibrators in other processes.
    pub crosses_processes: bool,
    /// Commands and queries, and other waves whose source [asked](crate::WaveBuilder::echo), are returned to their
    /// source if they have no receiver except observers.
    pub reflects_unheard: bool,
    /// Emitters wait for receivers whose options request it, wherever the receivers are. A plain emitting loop loses
    /// nothing when its receiver is slower but not stuck.
    pub back_pressure: bool,
    /// The medium knows immediately whether a channel has any receivers except observers. A question without a receiver
    /// fails with [`AskError::NoResonator`], and `notify` returns [`Reach::NoListener`].
    pub detects_unheard: bool,
    /// The maximum size of a wave on this medium in bytes: its payload in process, its frame over a network.
    pub max_payload: usize,
}

impl Promises {
    /// For implementors of media: ordered, with groups, detects and reflects unheard waves, not durable, and with
    /// back-pressure only in process. A medium that promises less sets the field to false.
    #[must_use]
    pub const fn new(crosses_processes: bool, max_payload: usize) -> Self {
        Self {
            ordered: true,
            durable: false,
            groups: true,
            exact_groups: true,
            crosses_processes,
            reflects_unheard: true,
            back_pressure: !crosses_processes,
            detects_unheard: true,
            max_payload,
        }
    }

    /// The promises that both media make. The smaller `max_payload` counts.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self {
            ordered: self.ordered && other.ordered,
            durable: self.durable && other.durable,
            groups: self.groups && other.groups,
            exact_groups: self.exact_groups && other.exact_groups,
            crosses_processes: self.crosses_processes && other.crosses_processes,
            reflects_unheard: self.reflects_unheard && other.reflects_unheard,
            back_pressure: self.back_pressure && other.back_pressure,
            detects_unheard: self.detects_unheard && other.detects_unheard,
            max_payload: self.max_payload.min(other.max_payload),
        }
    }
}

/// Called with each subscription that a guard ends.
pub type OnRevoked = Box<dyn Fn(&Subscription) + Send + Sync>;

/// Checks what a process emits and hears, and what arrives for it.
/// [`AetherBuilder::guard`](crate::AetherBuilder::guard) puts it around all layers.
pub trait Guard: ArrivalFilter + Any + Debug {
    /// Whether an identity may listen to all channels of a pattern, for what is heard without a subscription of a
    /// medium, such as a durable consumer. A refusal is counted.
    ///
    /// # Errors
    /// The reason.
    fn may_listen(&self, identity: &str, pattern: &Pattern) -> Result<(), ForeignError>;

    /// Checks a wave that was not delivered by a medium, such as one that a durable consumer has read, as if it had
    /// arrived now. A refusal is counted, and the wave must not be delivered.
    ///
    /// # Errors
    /// The reason.
    fn admit_stored(&self, wave: &mut Wave) -> Result<(), ForeignError>;

    /// The medium with the guard around it, which refuses what may not be emitted or heard. It calls `on_revoked` with each
    /// subscription that it ends later.
    fn around(&self, medium: Arc<dyn Medium>, router: Arc<Router>, on_revoked: OnRevoked) -> Arc<dyn Medium>;
}
