//! Readers that hold records: retention waits until they have settled them.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;

/// Returns the position up to which an open reader has settled everything; `None` once it is closed.
pub(crate) type Settled = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The readers for which a log keeps what they have not settled. Without any, it waits for nobody.
#[derive(Default)]
pub(crate) struct Holds(Mutex<BTreeMap<String, Hold>>);

/// A reader.
#[derive(Default)]
struct Hold {
    /// It has settled everything up to this position, as far as that is known.
    settled: u64,
    live: Option<Settled>,
}

impl Holds {
    /// Readers by name, with the position up to which each has settled everything: 0 for one that has not begun.
    pub(crate) fn new(readers: impl IntoIterator<Item = (String, u64)>) -> Self {
        let hold = |(name, settled)| (name, Hold { settled, live: None });
        Self(Mutex::new(readers.into_iter().map(hold).collect()))
    }

    /// Follows a reader that was opened, if it is one of these.
    pub(crate) fn follow(&self, name: &str, live: Settled) {
        if let Some(hold) = self.0.lock().get_mut(name) {
            hold.live = Some(live);
        }
    }

    /// A reader that was removed holds everything, as before it had begun.
    pub(crate) fn forget(&self, name: &str) {
        if let Some(hold) = self.0.lock().get_mut(name) {
            *hold = Hold::default();
        }
    }

    /// The reader that is farthest behind, and the position up to which it has settled everything.
    pub(crate) fn last(&self) -> Option<(String, u64)> {
        let mut readers = self.0.lock();
        for hold in readers.values_mut() {
            hold.settled = hold.live.as_ref().and_then(|live| live()).unwrap_or(hold.settled);
        }
        let last = readers.iter().min_by_key(|(_, hold)| hold.settled);
        last.map(|(name, hold)| (name.clone(), hold.settled))
    }

    /// All records after this position are held.
    pub(crate) fn settled(&self) -> u64 {
        self.last().map_or(u64::MAX, |(_, settled)| settled)
    }
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readers = self.0.lock();
        f.debug_map().entries(readers.iter().map(|(name, hold)| (name, hold.settled))).finish()
    }
}
