//! Changing the floor and the bounds of inboxes that are in use.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::waiting::wake;
use super::{Inbox, InboxOptions, InboxOptionsError};
use crate::amplitude::Floor;

/// Changes the floor and the bounds of inboxes while they are in use: of all that were made with options that name this
/// control ([`InboxOptions::controlled_by`]). Cloning it is one reference count.
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
    shared: Arc<Mutex<Controlled>>,
}

#[derive(Default)]
struct Controlled {
    /// Inboxes that are gone are removed whenever one is added.
    inboxes: Vec<Weak<Inbox>>,
    floor: Option<Floor>,
    bounds: Option<(usize, usize)>,
}

impl Controlled {
    fn inboxes(&self) -> impl Iterator<Item = Arc<Inbox>> {
        self.inboxes.iter().filter_map(Weak::upgrade)
    }
}

impl InboxControl {
    /// Sets the noise floor, as [`InboxOptions::floor`] does.
    pub fn set_floor(&self, floor: Floor) {
        let mut controlled = self.shared.lock();
        controlled.floor = Some(floor);
        controlled.inboxes().for_each(|inbox| inbox.set_floor(floor));
    }

    /// Sets the capacity in waves and in bytes, as [`InboxOptions::max_waves`] and [`InboxOptions::max_bytes`] do.
    ///
    /// # Errors
    /// [`InboxOptionsError`] names the bound that is out of range; nothing has changed then.
    pub fn set_bounds(&self, max_waves: usize, max_bytes: usize) -> Result<(), InboxOptionsError> {
        InboxOptions::default().max_waves(max_waves).max_bytes(max_bytes).check()?;
        let mut controlled = self.shared.lock();
        controlled.bounds = Some((max_waves, max_bytes));
        controlled.inboxes().for_each(|inbox| inbox.resize(max_waves, max_bytes));
        Ok(())
    }

    /// The number of inboxes that it controls and that exist.
    #[must_use]
    pub fn inboxes(&self) -> usize {
        self.shared.lock().inboxes().count()
    }

    /// Adds an inbox, which takes over what was set before.
    pub(crate) fn add(&self, inbox: &Arc<Inbox>) {
        let mut controlled = self.shared.lock();
        if let Some(floor) = controlled.floor {
            inbox.set_floor(floor);
        }
        if let Some((max_waves, max_bytes)) = controlled.bounds {
            inbox.resize(max_waves, max_bytes);
        }
        controlled.inboxes.retain(|inbox| inbox.strong_count() > 0);
        controlled.inboxes.push(Arc::downgrade(inbox));
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
    max_waves: AtomicUsize,
    max_bytes: AtomicUsize,
    floor: AtomicU32,
}

impl LiveOptions {
    pub(super) fn of(options: &InboxOptions) -> Self {
        Self {
            max_waves: options.max_waves.into(),
            max_bytes: options.max_bytes.into(),
            floor: options.floor.to_bits().into(),
        }
    }
}

impl Inbox {
    /// The configured floor.
    #[inline]
    pub(crate) fn floor(&self) -> Floor {
        Floor::from_bits(self.live.floor.load(Ordering::Relaxed))
    }

    /// The capacity in waves.
    #[inline]
    pub(super) fn max_waves(&self) -> usize {
        self.live.max_waves.load(Ordering::Relaxed)
    }

    /// The capacity in bytes.
    #[inline]
    pub(super) fn max_bytes(&self) -> usize {
        self.live.max_bytes.load(Ordering::Relaxed)
    }

    fn set_floor(&self, floor: Floor) {
        self.live.floor.store(floor.to_bits(), Ordering::Relaxed);
    }

    /// Sets bounds that were checked, and calls emitters for whom there is room now.
    fn resize(&self, max_waves: usize, max_bytes: usize) {
        let called = {
            let mut state = self.state.lock();
            let was_all = state.ahead_unheld == self.max_waves();
            self.live.max_waves.store(max_waves, Ordering::Relaxed);
            self.live.max_bytes.store(max_bytes, Ordering::Relaxed);
            // A bound that an outbox has set for running ahead stays, within the capacity.
            state.ahead_unheld = if was_all { max_waves } else { state.ahead_unheld.min(max_waves) };
            // A prefetch that is larger than half the inbox would delay evictions.
            self.return_prefetched(&mut state);
            self.set_ahead(&mut state);
            self.publish(&state);
            // Also those that wait although their wave could never fit: they see the new bounds when they try again.
            self.call_all(&mut state)
        };
        wake(called);
    }
}
