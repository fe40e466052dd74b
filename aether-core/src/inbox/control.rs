//! Changing the floor and the bounds of inboxes that are in use.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use parking_lot::Mutex;

use super::bounds::{InboxOptionsError, check};
use crate::amplitude::Floor;

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
