//! The state that the tasks and handles of one replica share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use aether_core::Amplitude;
pub(super) use aether_core::clock::micros_since_1970 as wall;
use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::overtaken::Overtaken;
use super::peers::Peers;
use super::presence::PresenceState;
#[cfg(feature = "store")]
use super::store::Store;
use super::superseded::{Losers, SupersededValues};
use super::watch::{Update, UpdateKind, WatchQueue};
use super::wire::Channels;
use crate::core::{
    Applied, Change, ClientWrite, Entry, Identity, Intake, Key, Refusal, State, Step, Submitted, Written,
};

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
    /// Changes of others that were refused: out of bounds, for want of room, or for one of the five reasons below.
    pub refused: u64,
    /// Refused: stamps that are too far ahead of the clock here. They are taken once their time has come.
    pub from_future: u64,
    /// Refused: of owners for which no key is trusted here, or whose certificate has not come yet.
    pub unknown_owners: u64,
    /// Refused: signed by another key than the present one of the owner.
    pub foreign_keys: u64,
    /// Refused: with a wrong signature. Beats that pretend to be of a peer with an owner count here, too.
    pub forged: u64,
    /// Refused without a look, because they came in one message after a wrong signature.
    pub unchecked: u64,
    /// Entries of owners that became void: signed by a key that was given up, or older than a floor.
    pub voided: u64,
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
    /// Records that were damaged in the store when it was opened.
    pub damaged: u64,
}

/// Changes that wait to be sent: the newest of each key.
pub(super) type Outgoing = BTreeMap<Key, (Change, Amplitude)>;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) field: String,
    pub(super) replica: String,
    /// Locked before the state.
    pub(super) identity: Mutex<Option<Identity>>,
    own: Option<SmolStr>,
    /// Some entries of this replica's owner have to be signed again.
    pub(super) maintain_now: Notify,
    /// Values that this replica's owner wrote, and a former run had written with a later stamp. A value is written
    /// again once at most, so two processes with one identity do not fight for ever.
    overtaken: Mutex<Overtaken>,
    /// The number of the last beat.
    last_beat: AtomicU64,
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
        (field, replica): (String, String),
        channels: Channels,
        state: State,
        identity: Option<Identity>,
        peers: Peers,
        #[cfg(feature = "store")] store: Option<Store>,
    ) -> Self {
        Self {
            field,
            replica,
            own: identity.as_ref().map(|identity| identity.name().into()),
            identity: Mutex::new(identity),
            maintain_now: Notify::new(),
            overtaken: Mutex::default(),
            last_beat: AtomicU64::new(0),
            channels,
            presence: Arc::new(PresenceState::new(state.writer())),
            state: Mutex::new(state),
            watchers: Mutex::default(),
            supersedes: Mutex::default(),
            outgoing: Mutex::default(),
            to_send: Notify::new(),
            peers: Mutex::new(peers),
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

    /// The number of a beat: the time, but greater than the one before.
    pub(super) fn next_beat(&self) -> u64 {
        let (next, wall) = (|last: u64| last.saturating_add(1), wall());
        let last = self.last_beat.fetch_update(Relaxed, Relaxed, |last| Some(wall.max(next(last))));
        wall.max(next(last.unwrap_or_else(|last| last)))
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
        self.peers.lock().close();
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
        let written = changes.into_iter().map(|change| (change, old.clone())).collect();
        self.publish(state, amplitude, written);
        Ok(result)
    }

    /// Makes local changes of which each has an entry that it replaced, and queues them for sending.
    pub(super) fn write_each<T>(
        &self,
        amplitude: Amplitude,
        write: impl FnOnce(&mut State, u64) -> Result<(T, Vec<Written>), Refusal>,
    ) -> Result<T, Refusal> {
        let mut state = self.state();
        let (result, written) = write(&mut state, wall())?;
        self.drop_voided(&mut state);
        self.publish(state, amplitude, written);
        Ok(result)
    }

    fn publish(&self, state: MutexGuard<'_, State>, amplitude: Amplitude, written: Vec<Written>) {
        for (change, old) in &written {
            self.count(|account| &mut account.written);
            self.changed(&state, change, old.as_ref());
        }
        for (change, _) in written {
            self.queue(amplitude, change);
        }
        drop(state);
        self.to_send.notify_one();
    }

    /// Signs the entries of this replica's owner again where that is due, and drops its old removals.
    pub(super) fn maintain(&self) {
        let identity = self.identity.lock();
        let Some(identity) = &*identity else { return };
        let mut overtaken = self.overtaken.lock().take();
        let is_complete = self.account.lock().reconciliations > 0;
        let write = |state: &mut State, wall| {
            state.maintain(identity, &mut overtaken, is_complete, wall).map(|written| ((), written))
        };
        if let Err(refusal) = self.write_each(Amplitude::NORMAL, write) {
            tracing::warn!(%refusal, "this replica's own entries of the field were not signed again");
        }
    }

    /// Queues a change for sending. Called under the lock of the state, so that an older change never replaces a newer
    /// one.
    pub(super) fn queue(&self, amplitude: Amplitude, change: Change) {
        let mut outgoing = self.outgoing.lock();
        let amplitude = outgoing.get(&change.key).map_or(amplitude, |(_, waiting)| amplitude.max(*waiting));
        outgoing.insert(change.key.clone(), (change, amplitude));
    }

    /// Applies changes of another replica as they arrive.
    pub(super) fn apply(&self, changes: Vec<Change>) {
        let wall = wall();
        let mut state = self.state();
        let mut intake = Intake::default();
        for change in changes {
            match intake.apply(&mut state, change.clone(), wall) {
                Ok(Applied::Changed { old }) => self.received(&state, &state.joined(change), old.as_ref()),
                Ok(Applied::Known) => {}
                // Its sender learns it in the next reconciliation.
                Ok(Applied::Gone) => self.sync_now.notify_one(),
                Err(refusal) => self.refused(&refusal),
            }
        }
        self.drop_voided(&mut state);
    }

    fn drop_voided(&self, state: &mut State) {
        let voided = state.take_voided();
        self.voided(state, &voided);
    }

    fn voided(&self, state: &State, voided: &[Change]) {
        for change in voided {
            self.count(|account| &mut account.voided);
            // A newer one may have come in the same message.
            let new = state.entry(&change.key);
            self.notify(state, &change.key, Some(&change.entry), new);
            #[cfg(feature = "store")]
            if let Some(store) = &self.store {
                store.put(state, change.key.clone(), new.cloned());
            }
        }
    }

    /// Takes note of what a message of a reconciliation has changed.
    pub(super) fn take_in(&self, state: &State, step: &Step) {
        for (change, old) in &step.changed {
            self.received(state, change, old.as_ref());
        }
        step.refused.iter().for_each(|(_, refusal)| self.refused(refusal));
        self.voided(state, &step.voided);
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
        #[cfg(feature = "store")]
        let damaged = self.store.as_ref().map_or(0, |store| store.damaged as u64);
        #[cfg(not(feature = "store"))]
        let damaged = 0;
        let participants = self.presence.len() as u64;
        FieldStatus { entries, damaged, participants, ..*self.account.lock() }
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
        if let Some(owner) = change.key.owner()
            // The identity is locked before the state elsewhere; its name never changes.
            && self.own.as_ref() == Some(owner)
        {
            // Another process with this identity, which is alive, has no wrong clock: the later write wins.
            if !self.peers.lock().knows(change.entry.stamp.writer) {
                self.overtaken.lock().note(state, change, old);
            }
            self.maintain_now.notify_one();
        }
        self.changed(state, change, old);
    }

    /// Applies a change that somebody else has made, and queues it for sending.
    pub(super) fn submit(&self, amplitude: Amplitude, change: Change) -> Result<Applied, Refusal> {
        let applied = self.submit_to(&mut self.state(), amplitude, change)?;
        self.to_send.notify_one();
        Ok(applied)
    }

    /// The same under a lock that the caller holds, for several changes in one step. The caller wakes the sender.
    pub(super) fn submit_to(
        &self,
        state: &mut State,
        amplitude: Amplitude,
        change: Change,
    ) -> Result<Applied, Refusal> {
        let applied = state.apply(change.clone(), wall())?;
        if let Applied::Changed { old } = &applied {
            let change = state.joined(change);
            self.received(state, &change, old.as_ref());
            self.queue(amplitude, change);
        }
        Ok(applied)
    }

    /// Carries out a write of a client, and queues its changes for sending.
    pub(super) fn submit_write(
        &self,
        amplitude: Amplitude,
        write: ClientWrite,
    ) -> Result<Submitted, Refusal> {
        let mut state = self.state();
        let (submitted, written) = state.submit(write, wall())?;
        for (change, old) in written {
            self.received(&state, &change, old.as_ref());
            self.queue(amplitude, change);
        }
        drop(state);
        self.to_send.notify_one();
        Ok(submitted)
    }

    fn refused(&self, refusal: &Refusal) {
        let mut account = self.account.lock();
        account.refused += 1;
        match refusal {
            Refusal::UnknownOwner { .. } => account.unknown_owners += 1,
            Refusal::ForeignKey { .. } => account.foreign_keys += 1,
            Refusal::Forged { .. } => account.forged += 1,
            Refusal::Unchecked => account.unchecked += 1,
            Refusal::FromFuture(_) => account.from_future += 1,
            _ => {}
        }
        drop(account);
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
        let value = |entry: Option<&Entry>| entry.and_then(|entry| State::value_of(key, entry));
        let is_same = || key.owner().is_some() && value(old) == value(new);
        if matches!(key, Key::Binding(_) | Key::Floor(_)) || is_same() {
            return;
        }
        let mut watchers = self.watchers.lock();
        // The other owner of the queue is its `Watch`.
        watchers.retain(|watcher| Arc::strong_count(watcher) > 1);
        if !watchers.iter().any(|watcher| watcher.wants(key)) {
            return;
        }
        let (name, kind) = match key {
            Key::Register(name) | Key::Owned(_, name) | Key::Binding(name) | Key::Floor(name) => {
                (name, UpdateKind::Register { old: value(old), new: value(new) })
            }
            Key::Count(name, _) => (name, UpdateKind::Counter { sum: state.count(name) }),
            Key::Member(name, member, _) => {
                let is_member = state.is_member(name, member);
                (name, UpdateKind::Member { member: member.clone(), is_member })
            }
        };
        let stamp = new.or(old).map(|entry| entry.stamp).unwrap_or_default();
        let update = Update { owner: key.owner().cloned(), name: name.clone(), kind, stamp };
        watchers.iter().filter(|watcher| watcher.wants(key)).for_each(|watcher| watcher.put(&update));
    }
}
