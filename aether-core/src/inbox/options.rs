//! Inbox options: capacity, order of service, and overflow policy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::bounds::{InboxOptionsError, check, refused};
use super::control::InboxControl;
use super::ledger::ShedReason;
use crate::amplitude::Floor;
use crate::wave::Wave;

/// The order in which the waves of an inbox are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ServeOrder {
    /// Strongest first; first in, first out inside a level of a quarter octave. Waves of one source, channel and
    /// amplitude keep their order.
    ///
    /// In the inbox of a vibrator that does not observe, sources take turns as soon as more than 32 waves of a level wait and
    /// several sources have emitted them: a source that floods makes its own waves wait, not those of others. A full inbox then
    /// sheds the oldest wave of the source that uses most of it. While waves of 1024 sources wait in a level, further ones share
    /// their turns.
    ///
    /// Strict priority: while stronger waves saturate the receiver, weaker ones are starved. To avoid that, use
    /// [`ServeOrder::Arrival`], limit the waiting time ([`InboxOptions::sojourn_cap`], a half-life), or receive the
    /// weak channels with a vibrator of their own and take from both inboxes in turn.
    #[default]
    Strength,
    /// In order of arrival. A full inbox still sheds the weakest first.
    Arrival,
}

/// What happens to an emitter that reaches a full inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// `emit().await` waits for room, at most this long. Then the weakest wave is shed, and emitters do not wait again
    /// until the inbox has drained to half. Over a network the receiver asks senders to pause (if the medium promises
    /// [`back_pressure`](crate::medium::Promises::back_pressure)), and waves in flight wait as long for room.
    ///
    /// The strongest waiting emitter is admitted first. The last quarter of the inbox is reserved for stronger waves:
    /// of the levels offered in the last 10 to 20 s the weakest may use three quarters and the strongest all, and the
    /// levels in between get proportional shares. Waves of one level use all of it, except that waves weaker than
    /// normal (amplitude below 0.5) leave the last eighth of the waves and of the bytes free, at least one wave. So an
    /// inbox full of weak waves takes a strong one at once. An empty inbox takes a weak wave larger than that share. No
    /// queued wave is evicted for this. An emitter that times out while only stronger waves overtake it sheds the
    /// weakest wave of its level, and the others keep waiting. Waves from a network use the whole inbox. In an outbox the
    /// patience ends only if no wave of this strength or weaker has left in that time.
    Wait {
        /// The longest time that one emit waits for this inbox.
        patience: Duration,
    },
    /// The oldest of the weakest waves is shed at once.
    Shed,
}

/// Called with each shed wave and the reason, outside of all locks and in the task that caused the loss.
pub type OnShed = Arc<dyn Fn(&Wave, ShedReason) + Send + Sync>;

/// Options of an inbox: its bounds, order of service and overflow policy.
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
    pub(super) control: Option<InboxControl>,
    /// Whether sources that wait in one level take turns, if waves are received by strength.
    takes_turns: bool,
}

impl InboxOptions {
    /// The default. Absorbs bursts: 65,536 waves, 64 MiB, no sojourn cap, emitters wait up to 100 ms. Memory is
    /// allocated as waves arrive.
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
            control: None,
            takes_turns: false,
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

    /// Sets the capacity in waves, from 1 to 2^32 - 2. Default: 65,536. Cost: about 16 to 32 bytes each, plus the
    /// waves.
    #[must_use]
    pub fn max_waves(mut self, waves: usize) -> Self {
        self.max_waves = waves;
        self
    }

    /// Sets the capacity in bytes, payloads and overhead (see [`Wave::weight`]), at least 1. Default: 64 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the order of receiving. Default: strength.
    #[must_use]
    pub fn order(mut self, order: ServeOrder) -> Self {
        self.order = order;
        self
    }

    /// Sets the overflow policy. Default: wait up to 100 ms.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets the maximum waiting time of a wave; an older wave is dropped when its turn comes. `None`, the default, is
    /// no cap. Cost: one clock reading per wave.
    #[must_use]
    pub fn sojourn_cap(mut self, cap: Option<Duration>) -> Self {
        self.sojourn_cap = cap;
        self
    }

    /// Sets the noise floor: weaker waves are not delivered. Default: open. Cost: one clock reading for each wave that
    /// decays.
    #[must_use]
    pub fn floor(mut self, floor: Floor) -> Self {
        self.floor = floor;
        self
    }

    /// Lets a control change the floor and the bounds of vibrators' inboxes that are made with these options. What it
    /// was set to before replaces these options, also those that are set after this call. Default: none. Cost: nothing
    /// for a wave.
    #[must_use]
    pub fn controlled_by(mut self, control: &InboxControl) -> Self {
        self.control = Some(control.clone());
        self
    }

    /// Sets a callback for each shed wave and the reason. It runs in the task that caused the loss, which may be a
    /// medium's: keep it short. A panic in it ends that task.
    ///
    /// The vibrator drops the callback when it is dropped, after reporting what was queued. Waves that arrive later are
    /// counted as [`ShedReason::Closed`] but not reported to the callback.
    #[must_use]
    pub fn on_shed(mut self, callback: impl Fn(&Wave, ShedReason) + Send + Sync + 'static) -> Self {
        self.on_shed = Some(Arc::new(callback));
        self
    }

    /// Adds a second callback for each shed wave, called after the user's.
    #[must_use]
    pub fn also_on_shed(mut self, callback: impl Fn(&Wave, ShedReason) + Send + Sync + 'static) -> Self {
        let before = self.on_shed.take();
        self.on_shed(move |wave, reason| {
            if let Some(before) = &before {
                before(wave, reason);
            }
            callback(wave, reason);
        })
    }

    /// Lets sources that wait in one level take turns, as they do in the inbox of a vibrator.
    #[must_use]
    pub(crate) const fn in_turns(mut self) -> Self {
        self.takes_turns = true;
        self
    }

    /// Whether sources that wait in one level take turns.
    pub(super) fn takes_turns(&self) -> bool {
        self.takes_turns && self.order == ServeOrder::Strength
    }

    /// The control that changes inboxes made with these options.
    pub(crate) fn control(&self) -> Option<&InboxControl> {
        self.control.as_ref()
    }

    pub(super) fn check(&self) -> Result<(), InboxOptionsError> {
        check(self.max_waves, self.max_bytes)?;
        match self.sojourn_cap {
            Some(Duration::ZERO) => {
                Err(refused("sojourn_cap", &Duration::ZERO, "a duration above zero, or None for no cap"))
            }
            _ => Ok(()),
        }
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
