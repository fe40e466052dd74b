//! The participants that one watcher has not seen yet.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use smol_str::SmolStr;
use tokio::sync::Notify;

use crate::replica::watch::Names;

/// A participant has come, changed, or left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceUpdate {
    id: SmolStr,
    about: Vec<SmolStr>,
    value: Option<Bytes>,
}

impl PresenceUpdate {
    /// The id of the participant.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The names that the participant concerns; none if it has left or expired.
    pub fn about(&self) -> impl Iterator<Item = Names> {
        self.about.iter().map(|pattern| Names::of(pattern))
    }

    /// Whether the participant is there. `false` if it has left or expired.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// The JSON of the participant; `None` if it has left or expired.
    #[must_use]
    pub const fn json(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// The value of the participant; `None` if it has left or expired.
    ///
    /// # Errors
    /// The JSON error if the value is not of this type.
    pub fn value<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        self.value.as_deref().map(serde_json::from_slice).transpose()
    }
}

/// The participants that one watcher has not seen yet. It has the ids only: their values are read when it looks. Each
/// id is in the table or was returned before, so it is bounded as the table is.
#[derive(Debug)]
pub(super) struct Pending {
    seen: Mutex<Seen>,
    pub(super) wake: Notify,
}

#[derive(Debug)]
struct Seen {
    changed: BTreeSet<SmolStr>,
    /// The participants that the watcher knows, and the version of their value.
    versions: BTreeMap<SmolStr, u64>,
}

impl Pending {
    pub(super) fn new(there: impl Iterator<Item = SmolStr>, is_closed: bool) -> Self {
        let changed = if is_closed { BTreeSet::new() } else { there.collect() };
        Self { seen: Mutex::new(Seen { changed, versions: BTreeMap::new() }), wake: Notify::new() }
    }

    pub(super) fn changed(&self, id: &SmolStr, is_present: bool) {
        let mut seen = self.seen.lock();
        if is_present || seen.versions.contains_key(id) {
            seen.changed.insert(id.clone());
            drop(seen);
            self.wake.notify_one();
        } else {
            // It came and left unseen.
            seen.changed.remove(id);
        }
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn take(
        &self,
        is_closed: bool,
        now: impl Fn(&SmolStr) -> Option<(u64, Vec<SmolStr>, Bytes)>,
    ) -> Result<Option<PresenceUpdate>, ()> {
        let mut seen = self.seen.lock();
        if is_closed {
            return Err(());
        }
        while let Some(id) = seen.changed.pop_first() {
            match now(&id) {
                Some((version, about, value)) => {
                    if seen.versions.insert(id.clone(), version) != Some(version) {
                        return Ok(Some(PresenceUpdate { id, about, value: Some(value) }));
                    }
                }
                None => {
                    if seen.versions.remove(&id).is_some() {
                        return Ok(Some(PresenceUpdate { id, about: Vec::new(), value: None }));
                    }
                }
            }
        }
        Ok(None)
    }
}
