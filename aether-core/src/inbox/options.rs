//! Inbox options: capacity, order of service, overflow policy, and what can be changed while an inbox is in use.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

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
    /// In the inbox of a vibrator that does not observe, sources take turns as soon as more than 32 waves of a level
    /// wait and several sources have emitted them: a source that floods delays its own waves, not the waves
    /// of others. A full inbox then sheds the oldest wave of the source that uses most of it. While waves of 1024
    /// sources wait in a level, further ones share their turns.
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
    /// The strongest waiting emitter is admitted first. Waves weaker than normal (amplitude below 0.5) leave the last
    /// eighth of the waves and of the bytes free, at least one wave, so that an inbox full of them takes a strong wave at
    /// once. An empty inbox takes a weak wave larger than its share. No queued wave is evicted for a stronger one. An
    /// emitter that times out while only stronger waves overtake it sheds the weakest wave, and the others keep waiting.
    /// Waves from a network use the whole inbox. In an outbox the patience ends only if no wave of this strength or weaker
    /// has left in that time.
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

    /// Sets the maximum waiting time of a wave; an older wave is dropped when its turn comes. `None`, the default,
    /// sets no cap. Cost: one clock reading per wave.
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

    /// Lets a control change the floor and the bounds of vibrators' inboxes that are made with these options. A floor
    /// or bounds that the control was set to replace these options, also options that are set after this call. Default:
    /// none. Cost: nothing for a wave.
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

const MOST_WAVES: usize = u32::MAX as usize - 1;

/// An option that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("inbox option {option} = {given} is not allowed: use {allowed}")]
pub struct InboxOptionsError {
    option: &'static str,
    given: String,
    allowed: &'static str,
}

pub(super) fn refused(
    option: &'static str,
    given: &dyn fmt::Debug,
    allowed: &'static str,
) -> InboxOptionsError {
    InboxOptionsError { option, given: format!("{given:?}"), allowed }
}

/// Checks the capacity in waves and in bytes.
pub(super) fn check(max_waves: usize, max_bytes: usize) -> Result<(), InboxOptionsError> {
    if max_waves == 0 || max_waves > MOST_WAVES {
        return Err(refused("max_waves", &max_waves, "1 to 4294967294"));
    }
    if max_bytes == 0 {
        return Err(refused("max_bytes", &max_bytes, "at least 1"));
    }
    Ok(())
}

/// Changes the floor and the bounds of inboxes while they are in use: of all that were made with options that name this
/// control ([`InboxOptions::controlled_by`](crate::InboxOptions::controlled_by)). Cloning it is one reference count.
///
/// A change holds for these inboxes and for those that are made later. Waves that are queued stay queued. An inbox that
/// holds more than its new bounds behaves as a full one: emitters wait for room, and a wave that cannot wait sheds the
/// weakest down to the bounds, which is counted as usual. A raised floor applies to queued waves that decay when their
/// turn comes, and to all waves that arrive.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Floor, InboxControl, InboxOptions, Vibrator, Wave};
///
/// let aether = Aether::local();
/// let control = InboxControl::default();
/// let inbox = InboxOptions::default().controlled_by(&control);
/// let stock = Vibrator::builder("stock").inbox(inbox).create(&aether).await?;
/// stock.resonate_on("orders.*").await?;
///
/// control.set_floor(Floor::new(0.4)?);
/// let shop = aether.emitter("shop")?;
/// shop.emit(Wave::builder("orders.viewed").amplitude(0.1)).await?;
/// assert_eq!(stock.ledger().shed_below_floor, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct InboxControl {
    pub(super) shared: Arc<Mutex<Controlled>>,
}

/// An inbox whose floor and bounds can change.
pub(crate) trait Adjustable: Send + Sync {
    fn set_floor(&self, floor: Floor);
    /// Sets bounds that were checked. Returns the emitters that may have room now, to be woken outside of locks.
    fn resize(&self, max_waves: usize, max_bytes: usize) -> Vec<Waker>;
}

#[derive(Default)]
pub(super) struct Controlled {
    /// Inboxes that are gone are removed whenever one is added.
    inboxes: Vec<Weak<dyn Adjustable>>,
    floor: Option<Floor>,
    pub(super) bounds: Option<(usize, usize)>,
}

impl Controlled {
    fn inboxes(&self) -> impl Iterator<Item = Arc<dyn Adjustable>> {
        self.inboxes.iter().filter_map(Weak::upgrade)
    }
}

impl InboxControl {
    /// Sets the noise floor, as [`InboxOptions::floor`](crate::InboxOptions::floor) does.
    pub fn set_floor(&self, floor: Floor) {
        let mut controlled = self.shared.lock();
        controlled.floor = Some(floor);
        controlled.inboxes().for_each(|inbox| inbox.set_floor(floor));
    }

    /// Sets the capacity in waves and in bytes, as [`InboxOptions::max_waves`](crate::InboxOptions::max_waves) and
    /// [`InboxOptions::max_bytes`](crate::InboxOptions::max_bytes) do.
    ///
    /// # Errors
    /// [`InboxOptionsError`] names the bound that is out of range; nothing has changed then.
    pub fn set_bounds(&self, max_waves: usize, max_bytes: usize) -> Result<(), InboxOptionsError> {
        check(max_waves, max_bytes)?;
        let mut controlled = self.shared.lock();
        controlled.bounds = Some((max_waves, max_bytes));
        let resized = controlled.inboxes().flat_map(|inbox| inbox.resize(max_waves, max_bytes));
        let called: Vec<_> = resized.collect();
        drop(controlled);
        called.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The number of inboxes that it controls and that exist.
    #[must_use]
    pub fn inboxes(&self) -> usize {
        self.shared.lock().inboxes().count()
    }

    /// Adds an inbox, which takes over what was set before.
    pub(crate) fn add(&self, inbox: Arc<dyn Adjustable>) {
        let mut controlled = self.shared.lock();
        if let Some(floor) = controlled.floor {
            inbox.set_floor(floor);
        }
        let resized = controlled.bounds.map(|(max_waves, max_bytes)| inbox.resize(max_waves, max_bytes));
        controlled.inboxes.retain(|inbox| inbox.strong_count() > 0);
        controlled.inboxes.push(Arc::downgrade(&inbox));
        drop(controlled);
        resized.into_iter().flatten().for_each(Waker::wake);
    }
}

impl fmt::Debug for InboxControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxControl").field("inboxes", &self.inboxes()).finish_non_exhaustive()
    }
}

/// The options that can change while an inbox is in use. Bounds are written under the lock of the inbox. The receiver
/// reads the floor without that lock.
pub(super) struct LiveOptions {
    pub(super) max_waves: AtomicUsize,
    pub(super) max_bytes: AtomicUsize,
    floor: AtomicU32,
}

impl LiveOptions {
    pub(super) fn new(max_waves: usize, max_bytes: usize, floor: Floor) -> Self {
        Self { max_waves: max_waves.into(), max_bytes: max_bytes.into(), floor: floor.to_bits().into() }
    }

    #[inline]
    pub(super) fn floor(&self) -> Floor {
        Floor::from_bits(self.floor.load(Ordering::Relaxed))
    }

    pub(super) fn set_floor(&self, floor: Floor) {
        self.floor.store(floor.to_bits(), Ordering::Relaxed);
    }
}

/// The callback given to [`InboxOptions::on_shed`], until it is revoked with its vibrator: routes, threads and accounts may
/// keep an inbox alive for longer.
pub(crate) struct Callback(Arc<Mutex<Option<OnShed>>>);

impl InboxOptions {
    /// The same options with a revocable callback, and its handle.
    pub(crate) fn revocable(mut self) -> (Self, Callback) {
        let callback = Arc::new(Mutex::new(self.on_shed.take()));
        if callback.lock().is_some() {
            let place = Arc::clone(&callback);
            self = self.on_shed(move |wave, reason| {
                // Called outside of the lock.
                let callback = place.lock().clone();
                if let Some(callback) = callback {
                    callback(wave, reason);
                }
            });
        }
        (self, Callback(callback))
    }
}

impl Callback {
    /// Drops the callback and everything it holds: at once, or at the end of a running call.
    pub(crate) fn revoke(&self) {
        // Dropped outside of the lock.
        let callback = self.0.lock().take();
        drop(callback);
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").finish_non_exhaustive()
    }
}
