//! What the tasks and handles of one replica share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aether_core::Amplitude;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::peers::Peers;
use super::presence::PresenceState;
#[cfg(feature = "store")]
use super::store::Store;
use super::superseded::{Losers, SupersededValues};
use super::watch::{Update, UpdateKind, WatchQueue};
use super::wire::Channels;
use crate::core::{Applied, Change, Entry, Key, Refusal, State, Step};

/// The account of one replica. All numbers are since it joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FieldStatus {
    /// Entries now, marks of removals included.
    pub entries: u64,
    /// Changes of this replica.
    pub written: u64,
    /// Changes of others that were new here.
    pub received: u64,
    /// Changes of others that were refused: out of bounds, or from the future.
    pub refused: u64,
    /// Participants that are present.
    pub participants: u64,
    /// Announcements of participants by others that were refused: out of bounds, no JSON, or too many.
    pub participants_refused: u64,
    /// Messages that could not be read, or are of another version.
    pub unreadable: u64,
    /// Entries that were removed elsewhere so long ago that no mark is kept.
    pub forgotten: u64,
    /// Own writes that lost against concurrent ones.
    pub superseded: u64,
    /// Losses, of this replica or of writers that submit to it, that a listener did not hear of: it was too slow.
    pub unreported: u64,
    /// Reconciliations that were finished.
    pub reconciliations: u64,
    /// Reconciliations that broke off.
    pub broken_off: u64,
}

/// Changes that wait to be sent: the newest of each key.
pub(super) type Outgoing = BTreeMap<Key, (Change, Amplitude)>;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) replica: String,
    pub(super) channels: Channels,
    state: Mutex<State>,
    watchers: Mutex<Vec<Arc<WatchQueue>>>,
    supersedes: Mutex<Vec<(Losers, mpsc::Sender<SupersededValues>)>>,
    pub(super) outgoing: Mutex<Outgoing>,
    /// Something waits to be sent.
    pub(super) to_send: Notify,
    pub(super) peers: Mutex<Peers>,
    pub(super) presence: Arc<PresenceState>,
    /// Increases with every peer that comes, and with every finished reconciliation.
    pub(super) progress: watch::Sender<u64>,
    /// A beat has to be sent now.
    pub(super) beat_now: Notify,
    /// Something may be missing here.
    pub(super) sync_now: Notify,
    /// The account but for the entries and the participants, which are counted elsewhere.
    account: Mutex<FieldStatus>,
    /// Held by `update` from its read to its write.
    pub(super) updating: Mutex<()>,
    last_change: Mutex<Instant>,
    #[cfg(feature = "store")]
    pub(super) store: Option<Store>,
}

impl Shared {
    pub(super) fn new(
        replica: String,
        channels: Channels,
        state: State,
        #[cfg(feature = "store")] store: Option<Store>,
    ) -> Self {
        Self {
            replica,
            channels,
            presence: Arc::new(PresenceState::new(state.writer())),
            state: Mutex::new(state),
            watchers: Mutex::default(),
            supersedes: Mutex::default(),
            outgoing: Mutex::default(),
            to_send: Notify::new(),
            peers: Mutex::default(),
            progress: watch::Sender::new(0),
            beat_now: Notify::new(),
            sync_now: Notify::new(),
            account: Mutex::default(),
            updating: Mutex::default(),
            last_change: Mutex::new(Instant::now()),
            #[cfg(feature = "store")]
            store,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The time since the last change, local or remote.
    pub(super) fn quiet_for(&self) -> std::time::Duration {
        self.last_change.lock().elapsed()
    }

    pub(super) fn watch(&self, queue: &Arc<WatchQueue>) {
        self.watchers.lock().push(Arc::clone(queue));
    }

    pub(super) fn superseded(&self, sender: mpsc::Sender<SupersededValues>, losers: Losers) {
        self.supersedes.lock().push((losers, sender));
    }

    pub(super) fn close(&self) {
        self.watchers.lock().drain(..).for_each(|watcher| watcher.close());
        self.supersedes.lock().clear();
        self.presence.close();
    }

    /// Makes local changes, and queues them for sending.
    pub(super) fn write<T>(
        &self,
        amplitude: Amplitude,
        write: impl FnOnce(&mut State, u64) -> Result<(T, Vec<Change>), Refusal>,
        old: impl FnOnce(&State) -> Option<Entry>,
    ) -> Result<T, Refusal> {
        let mut state = self.state();
        let old = old(&state);
        let (result, changes) = write(&mut state, wall())?;
        for change in &changes {
            self.count(|account| &mut account.written);
            self.changed(&state, change, old.as_ref());
        }
        // Under the lock of the state, so that an older change never replaces a newer one.
        for change in changes {
            self.send(change, amplitude);
        }
        drop(state);
        self.to_send.notify_one();
        Ok(result)
    }

    /// Applies changes of another replica as they arrive.
    pub(super) fn apply(&self, changes: Vec<Change>) {
        let wall = wall();
        let mut state = self.state();
        for change in changes {
            match state.apply(change.clone(), wall) {
                Ok(Applied::Changed { old }) => self.received(&state, &change, old.as_ref()),
                Ok(Applied::Known) => {}
                // Its sender learns it in the next reconciliation.
                Ok(Applied::Gone) => self.sync_now.notify_one(),
                Err(refusal) => self.refused(&refusal),
            }
        }
    }

    /// Takes note of what a message of a reconciliation has changed.
    pub(super) fn take_in(&self, state: &State, step: &Step) {
        for (change, old) in &step.changed {
            self.received(state, change, old.as_ref());
        }
        step.refused.iter().for_each(|(_, refusal)| self.refused(refusal));
        for change in &step.forgotten {
            self.count(|account| &mut account.forgotten);
            self.lost_against(state, change.key.name(), &change.entry, None);
            self.notify(state, &change.key, Some(&change.entry), None);
            #[cfg(feature = "store")]
            if let Some(store) = &self.store {
                store.put(state, change.key.clone(), None);
            }
        }
    }

    /// Drops the marks of removals that are older than the horizon.
    pub(super) fn collect(&self) {
        let mut state = self.state();
        let keys = state.collect(wall());
        tracing::trace!(keys = keys.len(), "marks of removals were dropped");
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            keys.into_iter().for_each(|key| store.put(&state, key, None));
        }
    }

    /// The account.
    pub(super) fn status(&self) -> FieldStatus {
        let entries = self.state().digest().entries;
        let participants = self.presence.len() as u64;
        FieldStatus { entries, participants, ..*self.account.lock() }
    }

    /// Counts one, such as `|account| &mut account.unreadable`.
    pub(super) fn count(&self, what: impl FnOnce(&mut FieldStatus) -> &mut u64) {
        *what(&mut self.account.lock()) += 1;
    }

    /// Counts participants that were refused.
    pub(super) fn refuse_participants(&self, refused: u64) {
        self.account.lock().participants_refused += refused;
    }

    fn received(&self, state: &State, change: &Change, old: Option<&Entry>) {
        self.count(|account| &mut account.received);
        if let (Key::Register(name), Some(old)) = (&change.key, old)
            && change.entry.supersedes(old)
        {
            self.lost_against(state, name, old, Some(&change.entry));
        }
        self.changed(state, change, old);
    }

    /// Applies a change that somebody else has made, and queues it for sending.
    pub(super) fn submit(&self, amplitude: Amplitude, change: Change) -> Result<Applied, Refusal> {
        let mut state = self.state();
        let applied = state.apply(change.clone(), wall())?;
        if let Applied::Changed { old } = &applied {
            self.received(&state, &change, old.as_ref());
            // Under the lock of the state, so that an older change never replaces a newer one.
            self.send(change, amplitude);
            drop(state);
            self.to_send.notify_one();
        }
        Ok(applied)
    }

    /// Queues a change for sending, in place of an older one of its key.
    fn send(&self, change: Change, amplitude: Amplitude) {
        let mut outgoing = self.outgoing.lock();
        let amplitude = outgoing.get(&change.key).map_or(amplitude, |(_, waiting)| amplitude.max(*waiting));
        outgoing.insert(change.key.clone(), (change, amplitude));
    }

    fn refused(&self, refusal: &Refusal) {
        self.count(|account| &mut account.refused);
        tracing::debug!(%refusal, "a change of another replica was refused");
    }

    fn lost_against(&self, state: &State, name: &str, lost: &Entry, winner: Option<&Entry>) {
        let is_own = lost.stamp.writer == state.writer();
        if is_own {
            self.count(|account| &mut account.superseded);
        }
        let values = SupersededValues {
            name: name.to_owned(),
            lost: lost.value.clone(),
            lost_stamp: lost.stamp,
            winner: winner.and_then(|winner| winner.value.clone()),
            stamp: winner.map(|winner| winner.stamp),
        };
        // A full queue loses the report, not the count.
        self.supersedes.lock().retain(|(losers, sender)| {
            let is_meant = is_own || *losers == Losers::All;
            if !is_meant {
                return true;
            }
            match sender.try_send(values.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.count(|account| &mut account.unreported);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }

    fn changed(&self, state: &State, change: &Change, old: Option<&Entry>) {
        *self.last_change.lock() = Instant::now();
        self.notify(state, &change.key, old, Some(&change.entry));
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            store.put(state, change.key.clone(), Some(change.entry.clone()));
        }
    }

    fn notify(&self, state: &State, key: &Key, old: Option<&Entry>, new: Option<&Entry>) {
        let mut watchers = self.watchers.lock();
        // The other owner of the queue is its `Watch`.
        watchers.retain(|watcher| Arc::strong_count(watcher) > 1);
        if !watchers.iter().any(|watcher| watcher.wants(key.name())) {
            return;
        }
        let value = |entry: Option<&Entry>| entry.and_then(|entry| entry.value.clone());
        let (name, kind) = match key {
            Key::Register(name) => (name, UpdateKind::Register { old: value(old), new: value(new) }),
            Key::Count(name, _) => (name, UpdateKind::Counter { sum: state.count(name) }),
            Key::Member(name, member, _) => {
                let is_member = state.is_member(name, member);
                (name, UpdateKind::Member { member: member.clone(), is_member })
            }
        };
        let stamp = new.or(old).map(|entry| entry.stamp).unwrap_or_default();
        let update = Update { name: name.clone(), kind, stamp };
        watchers.iter().filter(|watcher| watcher.wants(key.name())).for_each(|watcher| watcher.put(&update));
    }
}

/// The wall clock in microseconds since 1970. A clock before 1970 counts as 0.
pub(super) fn wall() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}
