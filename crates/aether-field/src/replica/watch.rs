//! Watching names: one update for each name that has changed since the last look.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use smol_str::SmolStr;
use tokio::sync::Notify;

use crate::core::{Key, Stamp, WriterId};

/// A change of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateKind {
    /// A register. A watcher that is slow gets the oldest `old` and the newest `new` in one update.
    Register {
        /// The value before, as JSON; `None` if there was none.
        old: Option<Bytes>,
        /// The value now, as JSON; `None` after a removal.
        new: Option<Bytes>,
    },
    /// A counter.
    Counter {
        /// Its sum now.
        sum: i128,
    },
    /// A set.
    Member {
        /// The member.
        member: Bytes,
        /// Whether it is in the set now.
        is_member: bool,
    },
}

/// A change of one name, local or remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub(super) owner: Option<SmolStr>,
    pub(super) name: SmolStr,
    pub(super) kind: UpdateKind,
    pub(super) stamp: Stamp,
}

impl Update {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The owner, if only it writes this name.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The kind of the change.
    #[must_use]
    pub const fn kind(&self) -> &UpdateKind {
        &self.kind
    }

    /// The new value of a register; `None` after a removal, for counters and for sets.
    ///
    /// # Errors
    /// The JSON error if the value is not of this type.
    pub fn value<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        match &self.kind {
            UpdateKind::Register { new: Some(new), .. } => serde_json::from_slice(new).map(Some),
            _ => Ok(None),
        }
    }

    /// When it was written, by the clock of the writer.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The writer; [`Field::peers`](super::Field::peers) has the names.
    #[must_use]
    pub const fn by(&self) -> WriterId {
        self.stamp.writer
    }

    fn slot(&self) -> Slot {
        let member =
            if let UpdateKind::Member { member, .. } = &self.kind { Some(member.clone()) } else { None };
        (self.owner.clone(), self.name.clone(), member)
    }
}

/// Which names: all (`*`), those that begin with something (`room/7/*`), or one (`room/7/lamp`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    start: SmolStr,
    is_one: bool,
}

impl Names {
    /// The names that match a pattern. Every text is a pattern: a name, or the beginning of names and `*`.
    #[must_use]
    pub fn of(pattern: &str) -> Self {
        match pattern.strip_suffix('*') {
            Some(start) => Self { start: start.into(), is_one: false },
            None => Self { start: pattern.into(), is_one: true },
        }
    }

    /// The common beginning of all of these names.
    #[must_use]
    pub fn start(&self) -> &str {
        &self.start
    }

    /// Whether the name is one of these.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        if self.is_one { self.start == name } else { name.starts_with(self.start.as_str()) }
    }

    /// The names that are among these and among the others; `None` if there are none.
    #[must_use]
    pub fn and(&self, other: &Self) -> Option<Self> {
        // The start of the narrower one begins with the start of the other.
        if other.has(&self.start) && (self.is_one || !other.is_one) {
            Some(self.clone())
        } else if self.has(&other.start) {
            Some(other.clone())
        } else {
            None
        }
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.start, if self.is_one { "" } else { "*" })
    }
}

/// The place of a change: the owner, if there is one, the name, and the member of a set.
type Slot = (Option<SmolStr>, SmolStr, Option<Bytes>);

/// The writers of the watched names.
#[derive(Debug)]
pub(super) enum Writers {
    /// Everybody may.
    All,
    /// This owner.
    Owner(SmolStr),
    /// Each name has an owner, whoever it is.
    Owners,
}

/// Updates that wait for one watcher: at most one for each name or member.
#[derive(Debug)]
pub(super) struct WatchQueue {
    writers: Writers,
    names: Names,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Slot>,
    updates: BTreeMap<Slot, Update>,
    is_closed: bool,
}

impl WatchQueue {
    pub(super) fn new(writers: Writers, pattern: &str) -> Arc<Self> {
        let names = Names::of(pattern);
        Arc::new(Self { writers, names, waiting: Mutex::default(), wake: Notify::new() })
    }

    pub(super) fn wants(&self, key: &Key) -> bool {
        let is_by_them = match (&self.writers, key.owner()) {
            (Writers::All, owner) => owner.is_none(),
            (Writers::Owner(wanted), owner) => owner == Some(wanted),
            (Writers::Owners, owner) => owner.is_some(),
        };
        is_by_them && self.names.has(key.name())
    }

    pub(super) fn put(&self, update: &Update) {
        let mut waiting = self.waiting.lock();
        let slot = update.slot();
        let mut update = update.clone();
        match waiting.updates.get_mut(&slot) {
            Some(earlier) => {
                if let UpdateKind::Register { old: first, .. } = &mut earlier.kind
                    && let UpdateKind::Register { old, .. } = &mut update.kind
                {
                    *old = first.take();
                }
                *earlier = update;
            }
            None => {
                waiting.order.push_back(slot.clone());
                waiting.updates.insert(slot, update);
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// `Err` if nothing waits and nothing will come.
    fn take(&self) -> Result<Option<Update>, ()> {
        let mut waiting = self.waiting.lock();
        match waiting.order.pop_front() {
            Some(slot) => Ok(waiting.updates.remove(&slot)),
            None if waiting.is_closed => Err(()),
            None => Ok(None),
        }
    }
}

/// The updates of the names that match a pattern, from the call of [`Field::watch`](super::Field::watch) on.
///
/// Updates of one name that were not taken yet become one, so a slow watcher costs at most one update for each name,
/// and always gets the newest state.
#[derive(Debug)]
pub struct Watch {
    pub(super) queue: Arc<WatchQueue>,
}

impl Watch {
    /// The next update; `None` when the field is closed and all updates were taken. Cancel safe.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            match self.queue.take() {
                Ok(Some(update)) => return Some(update),
                Ok(None) => self.queue.wake.notified().await,
                Err(()) => return None,
            }
        }
    }
}
