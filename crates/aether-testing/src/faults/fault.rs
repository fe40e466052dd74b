//! One fault: what it does, to which waves, and when.

use std::ops::Range;
use std::time::Duration;

use aether_core::{Pattern, Wave};

/// One fault of a medium: an effect, the waves that it hits, and the time in which it is active.
///
/// ```
/// use std::time::Duration;
/// use aether_testing::Fault;
///
/// let millis = Duration::from_millis;
/// let slow = Fault::delay(millis(50)).up_to(millis(200)).on("orders.>");
/// let cut = Fault::partition().source("shop").during(millis(2_000)..millis(5_000));
/// # let _ = (slow, cut);
/// ```
#[derive(Debug, Clone)]
#[must_use = "a fault does nothing by itself: give it to Faults::add"]
pub struct Fault {
    pub(super) effect: Effect,
    share: f64,
    pattern: Option<Pattern>,
    source: Option<String>,
    window: Option<Range<Duration>>,
}

/// Names a fault, to heal it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultId(pub(super) u64);

#[derive(Debug, Clone)]
pub(super) enum Effect {
    Lose,
    Delay { least: Duration, most: Duration },
    Duplicate,
    Reorder { by: Duration },
    Corrupt,
    Throttle { pause: Duration },
    Partition,
    Stall,
}

impl Fault {
    fn new(effect: Effect) -> Self {
        Self { effect, share: 1.0, pattern: None, source: None, window: None }
    }

    /// Loses this share of the waves, from 0 to 1. The emitter does not learn of it, as over a network. A lost question
    /// or answer ends in a time-out.
    ///
    /// # Panics
    /// If the share is not between 0 and 1.
    pub fn lose(share: f64) -> Self {
        Self::new(Effect::Lose).share(share)
    }

    /// Delays waves by this time. Waves of one source and channel keep their order.
    pub fn delay(by: Duration) -> Self {
        Self::new(Effect::Delay { least: by, most: by })
    }

    /// Draws each delay evenly between the one given to [`delay`](Self::delay) and this one. No effect on other faults.
    pub fn up_to(mut self, longest: Duration) -> Self {
        if let Effect::Delay { least, most } = &mut self.effect {
            *most = longest.max(*least);
        }
        self
    }

    /// Delivers this share of the waves twice, as a sender does that repeats what was not confirmed.
    ///
    /// # Panics
    /// If the share is not between 0 and 1.
    pub fn duplicate(share: f64) -> Self {
        Self::new(Effect::Duplicate).share(share)
    }

    /// Holds this share of the waves back for this time, so that later ones overtake them.
    ///
    /// # Panics
    /// If the share is not between 0 and 1.
    pub fn reorder(share: f64, by: Duration) -> Self {
        Self::new(Effect::Reorder { by }).share(share)
    }

    /// Flips one bit in the payload of this share of the waves. A wave without payload is left alone.
    ///
    /// # Panics
    /// If the share is not between 0 and 1.
    pub fn corrupt(share: f64) -> Self {
        Self::new(Effect::Corrupt).share(share)
    }

    /// Lets at most this many waves pass in each period, evenly spaced. The others wait in their order.
    ///
    /// # Panics
    /// If `waves` is zero.
    pub fn throttle(waves: u32, period: Duration) -> Self {
        assert!(waves > 0, "a throttle needs at least one wave: use Fault::stall() to let none pass");
        Self::new(Effect::Throttle { pause: period / waves })
    }

    /// Cuts the waves off: all of them are lost, questions and answers included. Without a pattern and a source, the
    /// notices of the framework (floors, presence, echoes) are lost as well.
    pub fn partition() -> Self {
        Self::new(Effect::Partition)
    }

    /// Holds all waves back until the fault is healed or its time is over; then they arrive in their order.
    pub fn stall() -> Self {
        Self::new(Effect::Stall)
    }

    /// Hits only this share of the waves, from 0 to 1, drawn by the seed. Default: all.
    ///
    /// # Panics
    /// If the share is not between 0 and 1.
    pub fn share(mut self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "a share of {share} is not between 0 and 1");
        self.share = share;
        self
    }

    /// Hits only the waves of a pattern. Default: all channels except the framework's own.
    ///
    /// # Panics
    /// If the pattern is invalid.
    pub fn on(mut self, pattern: &str) -> Self {
        match Pattern::new(pattern) {
            Ok(pattern) => self.pattern = Some(pattern),
            Err(error) => panic!("{pattern:?} is not a pattern: {error}"),
        }
        self
    }

    /// Hits only waves from vibrators or services of this name. Default: all.
    pub fn source(mut self, name: &str) -> Self {
        self.source = Some(name.to_owned());
        self
    }

    /// Is active only in this time, counted from the creation of the [`Faults`](crate::Faults). Default: from now on,
    /// until it is healed.
    pub fn during(mut self, window: Range<Duration>) -> Self {
        self.window = Some(window);
        self
    }

    /// Whether it is active at this time.
    pub(super) fn is_active(&self, now: Duration) -> bool {
        self.window.as_ref().is_none_or(|window| window.contains(&now))
    }

    /// When it ends by itself.
    pub(super) fn end(&self) -> Option<Duration> {
        self.window.as_ref().map(|window| window.end)
    }

    /// Whether it hits a wave with this drawn number in [0, 1).
    pub(super) fn hits(&self, wave: &Wave, drawn: f64) -> bool {
        self.pattern.as_ref().map_or(!wave.channel().is_reserved(), |pattern| pattern.matches(wave.channel()))
            && self.source.as_ref().is_none_or(|name| wave.source().name() == name)
            && drawn < self.share
    }

    /// Whether it cuts off everything.
    pub(super) fn cuts_all(&self) -> bool {
        matches!(self.effect, Effect::Partition)
            && self.pattern.is_none()
            && self.source.is_none()
            && self.share >= 1.0
    }
}
