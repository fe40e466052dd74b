//! How large an inbox is, in which order it is served, and what happens when it is full.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Inbox;
use super::ledger::ShedReason;
use crate::amplitude::Floor;
use crate::wave::Wave;

/// In which order the waves of an inbox are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ServeOrder {
    /// The strongest first; first in, first out inside a level of a quarter octave. Waves of one source, channel and
    /// amplitude keep their order.
    ///
    /// Strict: while stronger waves fill what the receiver can take, weaker ones are not received at all. Where they must
    /// be, use [`ServeOrder::Arrival`], end what waits too long ([`InboxOptions::sojourn_cap`], a half-life), or hear the weak
    /// channels with a vibrator of its own and take from both inboxes in turn.
    #[default]
    Strength,
    /// As they arrived. A full inbox still sheds the weakest first.
    Arrival,
}

/// What an emitter experiences when an inbox it reaches is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// `emit().await` waits for room, at most this long; then the weakest wave is shed, and emitters are not made to
    /// wait again before the inbox is half empty. In process only: what comes from a network never waits.
    ///
    /// The strongest emitter that waits is let in first. The last quarter of the inbox is kept for waves that are stronger
    /// than others: of the levels that were offered in the last 10 to 20 s the weakest may use three quarters, the
    /// strongest all, and those between the steps between. Waves of one level use all of it, except that waves weaker
    /// than normal (amplitude below 0.5) leave the last eighth of the waves and of the bytes free, at least one wave,
    /// whether stronger ones have come or not: so an inbox full of weak waves takes a strong one at once. A weak wave
    /// that is larger than its part is taken by an empty inbox. Nothing that was taken is dropped for this; an emitter
    /// whose patience ends while only stronger waves pass it sheds the weakest wave there, and the others stay patient.
    /// What comes from a network uses the whole inbox.
    Wait {
        /// The longest that one emit waits for this inbox.
        patience: Duration,
    },
    /// The oldest of the weakest waves is shed at once.
    Shed,
}

/// Called with each wave that is shed, and why, outside of all locks and in the task that caused it.
pub type OnShed = Arc<dyn Fn(&Wave, ShedReason) + Send + Sync>;

/// The bounds and the discipline of an inbox.
///
/// ```
/// use aether_core::{Floor, InboxOptions, ServeOrder};
///
/// let options = InboxOptions::overload().max_waves(256).order(ServeOrder::Arrival).floor(Floor::new(0.1)?);
/// # let _ = options;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct InboxOptions {
    pub(super) max_waves: usize,
    pub(super) max_bytes: usize,
    pub(super) order: ServeOrder,
    pub(super) when_full: WhenFull,
    pub(super) sojourn_cap: Option<Duration>,
    pub(super) floor: Floor,
    pub(super) on_shed: Option<OnShed>,
}

/// Bounds that an inbox cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("inbox option {option} = {given} is not allowed: use {allowed}")]
pub struct InboxOptionsError {
    option: &'static str,
    given: String,
    allowed: &'static str,
}

impl InboxOptions {
    const MOST_WAVES: usize = u32::MAX as usize - 1;

    /// Absorbs bursts: 65,536 waves, 64 MiB, no sojourn cap, emitters wait up to 100 ms. The default. Memory is taken
    /// as waves arrive.
    #[must_use]
    pub const fn interactive() -> Self {
        Self {
            max_waves: 65_536,
            max_bytes: 64 << 20,
            order: ServeOrder::Strength,
            when_full: WhenFull::Wait { patience: Duration::from_millis(100) },
            sojourn_cap: None,
            floor: Floor::OPEN,
            on_shed: None,
        }
    }

    /// Keeps latency low under constant overload: 1024 waves, 8 MiB, 20 ms sojourn cap, sheds at once.
    #[must_use]
    pub fn overload() -> Self {
        Self {
            max_waves: 1024,
            max_bytes: 8 << 20,
            sojourn_cap: Some(Duration::from_millis(20)),
            when_full: WhenFull::Shed,
            ..Self::interactive()
        }
    }

    /// The most waves that wait, from 1 to 2^32 - 2. Default: 65,536. Cost: about 16 to 32 bytes each, plus the waves.
    #[must_use]
    pub fn max_waves(mut self, waves: usize) -> Self {
        self.max_waves = waves;
        self
    }

    /// The most bytes that wait, payloads and what surrounds them (see [`Wave::weight`]), at least 1. Default: 64 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The order of receiving. Default: strength.
    #[must_use]
    pub fn order(mut self, order: ServeOrder) -> Self {
        self.order = order;
        self
    }

    /// What a full inbox does. Default: wait up to 100 ms.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// The longest that a wave may wait; older ones are dropped when their turn comes. `None` for no cap, the
    /// default. Cost: one clock reading a wave more.
    #[must_use]
    pub fn sojourn_cap(mut self, cap: Option<Duration>) -> Self {
        self.sojourn_cap = cap;
        self
    }

    /// The noise floor: weaker waves are not heard. Default: open. Cost: a clock reading for each wave that decays.
    #[must_use]
    pub fn floor(mut self, floor: Floor) -> Self {
        self.floor = floor;
        self
    }

    /// Called with each wave that is shed, and why. It runs in the task that caused the loss, which may be that of a medium:
    /// keep it short, and let it not panic, or it ends that task.
    ///
    /// The vibrator drops it when it is dropped itself, after what was queued was reported. Of waves that come for it after
    /// that it is not told; they are counted as [`ShedReason::Closed`].
    #[must_use]
    pub fn on_shed(mut self, callback: impl Fn(&Wave, ShedReason) + Send + Sync + 'static) -> Self {
        self.on_shed = Some(Arc::new(callback));
        self
    }

    /// Calls this as well with each wave that is shed, after what the user asked for.
    #[must_use]
    pub(crate) fn also_on_shed(
        mut self,
        callback: impl Fn(&Wave, ShedReason) + Send + Sync + 'static,
    ) -> Self {
        let before = self.on_shed.take();
        self.on_shed(move |wave, reason| {
            if let Some(before) = &before {
                before(wave, reason);
            }
            callback(wave, reason);
        })
    }

    pub(super) fn check(&self) -> Result<(), InboxOptionsError> {
        let refuse = |option, given: &dyn fmt::Debug, allowed| {
            Err(InboxOptionsError { option, given: format!("{given:?}"), allowed })
        };
        if self.max_waves == 0 || self.max_waves > Self::MOST_WAVES {
            return refuse("max_waves", &self.max_waves, "1 to 4294967294");
        }
        if self.max_bytes == 0 {
            return refuse("max_bytes", &self.max_bytes, "at least 1");
        }
        if self.sojourn_cap == Some(Duration::ZERO) {
            return refuse("sojourn_cap", &Duration::ZERO, "a time longer than zero, or None for no cap");
        }
        Ok(())
    }
}

impl Inbox {
    /// The floor that its owner set.
    pub(crate) fn floor(&self) -> Floor {
        self.options.floor
    }
}

impl Default for InboxOptions {
    fn default() -> Self {
        Self::interactive()
    }
}

impl fmt::Debug for InboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxOptions")
            .field("max_waves", &self.max_waves)
            .field("max_bytes", &self.max_bytes)
            .field("order", &self.order)
            .field("when_full", &self.when_full)
            .field("sojourn_cap", &self.sojourn_cap)
            .field("floor", &self.floor)
            .finish_non_exhaustive()
    }
}
