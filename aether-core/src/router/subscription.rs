//! One subscription of one vibrator, made by the router and read by media.
//!
//! The files around it decide which subscriptions receive a wave; this one only answers what a single one hears.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::channel::Pattern;
use crate::clock::{self, Instant};
use crate::inbox::Inbox;
use crate::source::Sequencer;
use crate::wave::Wave;

/// One vibrator's subscription to one pattern, alone or as a member of a group.
///
/// Made by [`Vibrator::resonate_on`](crate::Vibrator::resonate_on); a medium reads it to learn what to deliver.
#[derive(Debug)]
pub struct Subscription {
    pub(super) id: u64,
    pub(super) pattern: Pattern,
    pub(super) group: Option<Arc<str>>,
    pub(super) inbox: Arc<Inbox>,
    /// The sequencer of the receiving vibrator.
    sequencer: Arc<Sequencer>,
    hears_own: bool,
    pub(super) observes: bool,
    /// Applied to its waves before they enter the inbox.
    pub(super) relabel: Option<Arc<dyn Relabel>>,
    /// The vibrator has unsubscribed but keeps the subscription; see `Router::mute`.
    muted: AtomicBool,
    /// It was left, or rules ended it.
    ended: AtomicBool,
    /// The senders may know of it. Hopping keeps secret where it listens.
    open: AtomicBool,
    /// When the subscription took effect: the network delivers everything emitted since.
    in_force: OnceLock<Instant>,
}

/// Waves of one channel that were sent to a pattern and lost on the way, for
/// [`Router::lost_upstream`](crate::medium::Router::lost_upstream).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Their number.
    pub waves: u64,
    /// Subscriptions that were in force at that time should have received all of them.
    pub since: Instant,
    /// Whether this process sent them.
    pub is_own: bool,
}

/// The receiving vibrator and how it receives.
#[derive(Debug)]
pub struct Listener {
    /// The vibrator's sequencer.
    pub sequencer: Arc<Sequencer>,
    /// Whether it receives the waves of the same sequencer.
    pub hears_own: bool,
    /// Whether it is an [observer](crate::VibratorBuilder::observe).
    pub observes: bool,
    /// Moves waves to another channel on arrival. Ordinary term: subject mapping.
    pub relabel: Option<Arc<dyn Relabel>>,
}

impl Listener {
    /// A receiver inside a medium, which hears the waves of its own sequencer, too.
    #[must_use]
    pub fn new(sequencer: Arc<Sequencer>) -> Self {
        Self { sequencer, hears_own: true, observes: false, relabel: None }
    }
}

/// Moves the waves of a subscription to another channel than the one they arrived on. Ordinary term: subject mapping.
///
/// It works before the inbox, so the floor, the order, the ledger and `on_shed` see the wave as the receiver does. Among
/// the patterns of one inbox that match a wave, one that relabels takes precedence.
pub trait Relabel: std::fmt::Debug + Send + Sync {
    /// Called once for each wave offered to the inbox.
    fn relabel(&self, wave: Wave) -> Wave;
}

impl Subscription {
    /// A subscription that is neither muted nor in force.
    pub(super) fn new(
        id: u64,
        pattern: Pattern,
        group: Option<Arc<str>>,
        inbox: Arc<Inbox>,
        listener: Listener,
    ) -> Self {
        let Listener { sequencer, hears_own, observes, relabel } = listener;
        Self {
            id,
            pattern,
            group,
            inbox,
            sequencer,
            hears_own,
            observes,
            relabel,
            muted: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            open: AtomicBool::new(false),
            in_force: OnceLock::new(),
        }
    }

    /// An id unique within this router.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name of the vibrator.
    #[must_use]
    pub fn name(&self) -> &str {
        self.sequencer.source().name()
    }

    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The group whose members share the waves, if any.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Pattern and group, as announced by the vibrator.
    pub(crate) fn heard(&self) -> Heard {
        Heard { pattern: self.pattern.clone(), group: self.group.clone() }
    }

    /// Whether it only delivers waves that younger subscriptions of its inbox also match.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    pub(super) fn set_muted(&self, muted: bool) {
        self.muted.store(muted, Ordering::Relaxed);
    }

    /// Marks it as ended. Returns whether this call ended it, so that it is left once.
    pub fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// Whether it was left, or rules ended it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Lets the medium tell senders of it, before a join.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Whether senders may be told of it.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether it belongs to an observer, which sees questions and answers but cannot answer.
    #[must_use]
    pub fn observes(&self) -> bool {
        self.observes
    }

    /// Whether the vibrator receives a wave. It receives its own waves only if it asked for them, shares them in a
    /// group, or asked a question that it could answer.
    pub(super) fn hears(&self, wave: &Wave) -> bool {
        self.hears_own
            || self.group.is_some()
            || self.listener() != wave.source().instance()
            || (wave.is_question() && !self.observes)
    }

    /// The wave as its vibrator sees it.
    #[inline]
    pub(super) fn shown(&self, wave: Wave) -> Wave {
        match &self.relabel {
            None => wave,
            Some(relabel) => relabel.relabel(wave),
        }
    }

    /// The instance number of the receiving vibrator.
    fn listener(&self) -> u64 {
        self.sequencer.source().instance()
    }

    /// Marks the subscription as in force: everything emitted from now on reaches it. A medium that detects losses calls
    /// this at the end of a join. Waves lost before are not counted for this subscription. Only the first call has an
    /// effect.
    pub fn mark_in_force(&self) {
        self.in_force.get_or_init(clock::now);
    }

    /// Whether it should have received all of these. The vibrator may not receive its own waves, and how many of the
    /// lost ones were its own is unknown.
    pub(super) fn misses(&self, lost: Lost) -> bool {
        self.in_force.get().is_some_and(|in_force| *in_force <= lost.since)
            && (self.hears_own || !lost.is_own || !self.sequencer.has_begun())
    }
}

/// A subscription as others see it: a pattern and an optional group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heard {
    /// The pattern.
    pub pattern: Pattern,
    /// The group whose members share the waves, if any.
    pub group: Option<Arc<str>>,
}
