//! The outcome of carrying a wave: offered, stored, or waiting for room.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all, select_all};
use smallvec::SmallVec;

use crate::inbox::{Inbox, Offer};
use crate::wave::Wave;

/// The result of an emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The sequence number of the wave.
    pub sequence: u64,
    /// The number of inboxes the wave was offered to, or `None` if the medium cannot know. For a question, the number
    /// of those that could answer.
    pub receivers: Option<usize>,
    /// The place of the wave in a log, if its channel is durable.
    pub stored: Option<Stored>,
}

impl Receipt {
    pub(crate) fn new(sequence: u64, offered: Offered) -> Self {
        Self { sequence, receivers: offered.inboxes(), stored: None }
    }

    /// Of a wave that had to wait.
    pub(crate) fn of(sequence: u64, Settled { offered, stored }: Settled) -> Self {
        Self { stored, ..Self::new(sequence, offered) }
    }
}

/// How a wave fared that had to wait, or to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The number of inboxes that it was offered to.
    pub offered: Offered,
    /// Its place in a log, if it was stored.
    pub stored: Option<Stored>,
}

impl From<Offered> for Settled {
    fn from(offered: Offered) -> Self {
        Self { offered, stored: None }
    }
}

/// The number of inboxes a wave was offered to, if the medium can know it; for a question, the number of those that
/// could answer.
///
/// A single number, returned in a register from the inbox up to the emitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offered(usize);

impl Offered {
    /// The medium cannot know.
    pub const UNKNOWN: Self = Self(usize::MAX);

    /// Offered to this many inboxes.
    #[must_use]
    pub const fn to(inboxes: usize) -> Self {
        Self(inboxes)
    }

    /// Puts a wave into the outbox of a medium without waiting, as [`Medium::try_carry`](crate::medium::Medium) requires.
    ///
    /// # Errors
    /// The wave, if the outbox is full and its options make emitters wait.
    pub fn by_outbox(wave: Wave, outbox: &Inbox) -> Result<Self, Wave> {
        outbox.offer(wave, Offer::IfFits).map(|()| Self::UNKNOWN)
    }

    /// The number of inboxes, if the medium can know it.
    #[must_use]
    pub const fn inboxes(self) -> Option<usize> {
        if self.0 == Self::UNKNOWN.0 { None } else { Some(self.0) }
    }
}

/// The result of carrying a wave.
#[derive(Debug)]
pub enum Carried {
    /// The wave was offered to all inboxes.
    Done(Offered),
    /// Some inboxes have no room; [`Waiting::finish`] waits for them.
    Waiting(Waiting),
}

impl Carried {
    /// Puts a wave into the outbox of a medium, where it may have to wait for room, as
    /// [`Medium::carry`](crate::medium::Medium) requires.
    pub fn by_outbox(wave: Wave, outbox: &Arc<Inbox>) -> Self {
        match outbox.offer(wave, Offer::IfRoom) {
            Ok(()) => Self::Done(Offered::UNKNOWN),
            Err(wave) => Self::Waiting(Waiting::new(wave, [Arc::clone(outbox)], Offered::UNKNOWN)),
        }
    }
}

/// How much a wave survives. Greater levels survive more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: the wave is in memory only.
    #[default]
    None,
    /// The end of the process, also by `kill -9`: the operating system has the wave. A power cut may lose it.
    Stored,
    /// A power cut: the disk has confirmed the wave.
    Synced,
    /// The loss of machines: this many servers keep the wave, and most of them have it already.
    Replicated(u8),
}

impl Durability {
    /// The lower-case name: `none`, `stored`, `synced` or `replicated`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stored => "stored",
            Self::Synced => "synced",
            Self::Replicated(_) => "replicated",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicated(servers) => f.pad(&format!("replicated({servers})")),
            _ => f.pad(self.as_str()),
        }
    }
}

/// The place of a wave in a log, and the level that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stored {
    /// Its position, greater than the position of every wave that was stored before. Of a wave for later it
    /// is not greater than the position that the wave will have.
    pub position: NonZeroU64,
    /// The level that was reached.
    pub durability: Durability,
    /// Whether the log had the wave before, or one of the same [unique](crate::WaveBuilder::unique) name. In JetStream a
    /// wave that was stored again after a lost answer may count as the first one.
    pub is_copy: bool,
}

impl Stored {
    /// A wave that was stored. For implementors of media.
    #[must_use]
    pub const fn new(position: NonZeroU64, durability: Durability) -> Self {
        Self { position, durability, is_copy: false }
    }

    /// A wave that was there before. For implementors of media.
    #[must_use]
    pub const fn copy(self, is_copy: bool) -> Self {
        Self { is_copy, ..self }
    }
}

/// The places of several waves in a log, and the lowest level that any of them reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StoredRange {
    /// The smallest position. Waves of others may be between the positions.
    pub first: NonZeroU64,
    /// The greatest position.
    pub last: NonZeroU64,
    /// The lowest level that was reached.
    pub durability: Durability,
    /// The number of waves.
    pub waves: u64,
    /// How many of them the log had before: [`Stored::is_copy`].
    pub copies: u64,
}

impl StoredRange {
    /// A range that has this wave as well.
    #[must_use]
    pub fn with(before: Option<Self>, Stored { position, durability, is_copy }: Stored) -> Self {
        let one = Self { first: position, last: position, durability, waves: 1, copies: u64::from(is_copy) };
        before.map_or(one, |range| range.and(one))
    }

    /// Both ranges.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            durability: self.durability.min(other.durability),
            waves: self.waves + other.waves,
            copies: self.copies + other.copies,
        }
    }
}

/// Why a wave of a durable channel was not stored, or did not reach the level of its channel. Contains the wave, which was
/// offered to no inbox. If it was written and not synced, it may be found after a restart.
#[derive(Debug, thiserror::Error)]
#[error("the wave on {} was not stored", wave.channel())]
#[non_exhaustive]
pub struct NotStored {
    /// The wave that was not emitted.
    pub wave: Wave,
    /// Whether the same wave may be stored later.
    pub is_transient: bool,
    /// The reason.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl NotStored {
    /// For implementors of media.
    pub fn new(
        wave: Wave,
        is_transient: bool,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { wave, is_transient, source: source.into() }
    }
}

/// A full inbox, or several of which the first with room receives the wave.
pub(super) type Full = SmallVec<[Arc<Inbox>; 1]>;

/// A wave and the full inboxes that it still has to be offered to, or a wave that is being stored.
///
/// When dropped, the wave is offered to all of them at once: they shed their weakest wave and count it. An emit
/// cancelled while waiting therefore loses nothing uncounted.
#[must_use = "finish() waits for room; dropping sheds at once"]
pub struct Waiting(Box<Awaited>);

/// Boxed, so that the return value stays small when nothing waits.
enum Awaited {
    Room(WaitingState),
    Storage(BoxFuture<'static, Result<Settled, NotStored>>),
    Batch(BoxFuture<'static, BatchSettled>),
}

/// How several waves fared that were stored together.
#[derive(Debug, Default)]
pub struct BatchSettled {
    /// The places of those that were stored.
    pub stored: Option<StoredRange>,
    /// Those that were not, in their order.
    pub refused: Vec<NotStored>,
}

struct WaitingState {
    /// Each with the waves as it sees them, in order; none once they were offered.
    full: Vec<(Full, VecDeque<Wave>)>,
    offered: Offered,
}

impl Waiting {
    /// A wave that waits for these inboxes, which have refused it or would. `offered` is the result of
    /// [`Waiting::finish`]. For implementors of media.
    pub fn new(wave: Wave, full: impl IntoIterator<Item = Arc<Inbox>>, offered: Offered) -> Self {
        let full = full.into_iter().map(|inbox| (Full::from_elem(inbox, 1), [wave.clone()].into()));
        Self::for_each(full.collect(), offered)
    }

    pub(super) fn for_each(full: Vec<(Full, VecDeque<Wave>)>, offered: Offered) -> Self {
        Self(Box::new(Awaited::Room(WaitingState { full, offered })))
    }

    /// A wave that is being stored, and is offered to its inboxes afterwards. If the future is dropped earlier, it has to
    /// see to both by other means. For implementors of media.
    pub fn for_storage(storing: impl Future<Output = Result<Settled, NotStored>> + Send + 'static) -> Self {
        Self(Box::new(Awaited::Storage(Box::pin(storing))))
    }

    /// Waves that [`Medium::carry_all`](crate::medium::Medium) has taken and that are stored together; otherwise as
    /// [`Waiting::for_storage`].
    pub fn for_batch(storing: impl Future<Output = BatchSettled> + Send + 'static) -> Self {
        Self(Box::new(Awaited::Batch(Box::pin(storing))))
    }

    /// Puts waves into the outbox of a medium under one lock, where those that find no room have to wait in their order, as
    /// [`Medium::carry_all`](crate::medium::Medium) requires. For implementors of media.
    pub fn by_outbox(waves: impl IntoIterator<Item = Wave>, outbox: &Arc<Inbox>) -> Option<Self> {
        let rest = outbox.offer_while_room(waves);
        if rest.is_empty() {
            return None;
        }
        Some(Self::for_each(vec![(Full::from_elem(Arc::clone(outbox), 1), rest)], Offered::UNKNOWN))
    }

    /// Waits for room in all inboxes at once, at most for the patience of each; then the weakest wave is shed. Inboxes
    /// with room get the wave without waiting for the others. A wave that is being stored waits for that first. For
    /// waves that are stored together it only reports whether they were stored: see [`Waiting::finish_all`].
    ///
    /// # Errors
    /// [`NotStored`] with the wave, if its channel is durable and it was not stored: the first one, of several.
    /// Waiting for room cannot fail.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the wave is offered at once to every inbox it was still waiting for.
    pub async fn finish(mut self) -> Result<Settled, NotStored> {
        match &mut *self.0 {
            Awaited::Storage(storing) => storing.as_mut().await,
            Awaited::Batch(storing) => {
                let refused = storing.as_mut().await.refused.into_iter().next();
                refused.map_or(Ok(Offered::UNKNOWN.into()), Err)
            }
            // Boxed, because it is large and rare and would otherwise enlarge the future of every emit.
            Awaited::Room(state) => {
                Box::pin(async {
                    match &mut *state.full {
                        [only] => offer(only).await,
                        full => drop(join_all(full.iter_mut().map(offer)).await),
                    }
                })
                .await;
                Ok(state.offered.into())
            }
        }
    }

    /// Like [`Waiting::finish`], for waves that [`Medium::carry_all`](crate::medium::Medium) has taken.
    ///
    /// # Cancel safety
    /// As [`Waiting::finish`]; waves that are being stored are stored and then offered.
    pub async fn finish_all(mut self) -> BatchSettled {
        if let Awaited::Batch(storing) = &mut *self.0 {
            return storing.as_mut().await;
        }
        match self.finish().await {
            Ok(Settled { stored, .. }) => BatchSettled {
                stored: stored.map(|stored| StoredRange::with(None, stored)),
                refused: Vec::new(),
            },
            Err(refused) => BatchSettled { stored: None, refused: vec![refused] },
        }
    }
}

/// Waits for one inbox, or for the first of several. The offer of a wave and its record are not interrupted.
async fn offer((inboxes, waves): &mut (Full, VecDeque<Wave>)) {
    if let [only] = inboxes.as_slice() {
        return only.offer_all_patiently(waves).await;
    }
    while let Some(wave) = waves.front() {
        // Polled in turn; the first that offers the wave ends the wait.
        drop(select_all(inboxes.iter().map(|inbox| Box::pin(inbox.offer_patiently(wave)))).await);
        waves.pop_front();
    }
}

impl Drop for WaitingState {
    fn drop(&mut self) {
        for (inboxes, waves) in self.full.drain(..) {
            if let Some(inbox) = inboxes.first() {
                waves.into_iter().for_each(|wave| drop(inbox.offer(wave, Offer::Unwaited)));
            }
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match &*self.0 {
            Awaited::Room(state) => &state.offered as &dyn fmt::Debug,
            Awaited::Storage(_) | Awaited::Batch(_) => &"storage",
        };
        f.debug_tuple("Waiting").field(of).finish()
    }
}

/// Inboxes without room, each with the waves that it has not got yet, in order. Usually empty. Made by
/// [`Router::arrive_if_room`](crate::medium::Router::arrive_if_room).
///
/// Dropping it offers the waves at once; inboxes shed what does not fit and count it.
#[derive(Debug, Default)]
#[must_use = "settle() waits for room; dropping sheds at once"]
pub struct Crowded(SmallVec<[(Arc<Inbox>, VecDeque<Wave>); 1]>);

impl Crowded {
    /// The strongest level for which there is no room, 0 to 63, where 0 is the strongest. `None` if nothing waits.
    #[must_use]
    pub fn level(&self) -> Option<u8> {
        self.0.iter().filter_map(|(_, waves)| waves.front()).map(|wave| wave.signal().level()).min()
    }

    /// Offers waves to an inbox and keeps those that have to wait for room.
    pub(super) fn offer(&mut self, inbox: &Arc<Inbox>, waves: impl IntoIterator<Item = Wave>) {
        let rest = inbox.offer_while_room(waves);
        if !rest.is_empty() {
            self.0.push((Arc::clone(inbox), rest));
        }
    }

    /// Waits until all inboxes have got their waves. Each wave waits at most as long as its inbox lets emitters wait.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the rest is offered at once.
    pub async fn settle(mut self) {
        join_all(self.0.iter_mut().map(|(inbox, waves)| inbox.offer_all_patiently(waves))).await;
    }
}

impl Drop for Crowded {
    fn drop(&mut self) {
        for (inbox, waves) in self.0.drain(..) {
            if !waves.is_empty() {
                inbox.offer_all(waves);
            }
        }
    }
}
