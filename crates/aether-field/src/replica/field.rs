//! The handle of a replica.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Amplitude;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::FieldError;
use super::peer::{Peer, PeerEvents};
use super::presence::Presence;
use super::shared::{FieldStatus, Shared};
use super::superseded::{KEPT, Losers, Superseded};
use super::syncing::{Exchanged, Syncer};
use super::watch::{Names, Watch, WatchQueue, Writers};
use crate::core::{Count, Digest, Key, Limits, RefusalReason, WriterId};

/// How long a replica that is there may take to be heard: longer than the time between two beats.
const HEARD: Duration = Duration::from_millis(1500);

/// A replica of shared state. A clone is another handle of the same replica.
///
/// Reads never wait. Writes are visible here at once, and travel to the other replicas in the background. Registers hold
/// JSON values; names are any text of at most 256 bytes, such as `room/7/lamp`. When the last handle is dropped the
/// replica leaves in the background; [`Field::close`] waits for that.
#[derive(Debug, Clone)]
pub struct Field {
    pub(super) shared: Arc<Shared>,
    syncer: Arc<Syncer>,
    pub(super) amplitude: Amplitude,
    running: Arc<Running>,
}

/// The task of a replica, which ends when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Running {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    pub(super) fn new(stop: CancellationToken, task: JoinHandle<()>) -> Self {
        Self { stop, task: Mutex::new(Some(task)) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Field {
    pub(super) fn new(
        shared: Arc<Shared>,
        syncer: Arc<Syncer>,
        amplitude: Amplitude,
        running: Running,
    ) -> Self {
        Self { shared, syncer, amplitude, running: Arc::new(running) }
    }

    /// The name of the field.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.field
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The amplitude of the changes of this replica.
    pub(super) const fn amplitude(&self) -> Amplitude {
        self.amplitude
    }

    /// Writes a register.
    ///
    /// # Errors
    /// [`FieldError`] if the value is `null` or no JSON, or name or value are out of bounds. Nothing changes then.
    pub fn set(&self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), FieldError> {
        self.set_json(name, json_of(name, value)?)
    }

    /// Reads a register; `None` if there is none.
    ///
    /// # Errors
    /// [`FieldError::Deserialize`] if the value is not of this type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FieldError> {
        self.get_json(name).map(|value| read(name, &value)).transpose()
    }

    /// The JSON of a register; `None` if there is none.
    #[must_use]
    pub fn get_json(&self, name: &str) -> Option<Bytes> {
        self.shared.state().get(name).cloned()
    }

    /// The names and the JSON of the registers that match a pattern: a name, or the beginning of names and `*`.
    #[must_use]
    pub fn list(&self, pattern: &str) -> Vec<(String, Bytes)> {
        let state = self.shared.state();
        let names = Names::of(pattern);
        let all = state.registers(names.start()).filter(|(name, _)| names.has(name));
        all.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    /// Reads a register, and writes what `change` makes of it in one step; `None` removes it. Concurrent updates of
    /// other replicas take no part in the step: of two, one wins.
    ///
    /// # Errors
    /// As [`Field::get`] and [`Field::set`].
    pub fn update<T, F>(&self, name: &str, change: F) -> Result<(), FieldError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce(Option<T>) -> Option<T>,
    {
        // Two handles of one replica may update at once.
        let _one = self.shared.updating.lock();
        match change(self.get(name)?) {
            Some(value) => self.set(name, &value),
            None => self.remove(name).map(drop),
        }
    }

    /// Removes a register. Returns whether there was one.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if the name is out of bounds.
    pub fn remove(&self, name: &str) -> Result<bool, FieldError> {
        let write = |state: &mut crate::core::State, wall| {
            let change = state.remove(name, wall)?;
            Ok((change.is_some(), change.into_iter().collect()))
        };
        Ok(self.shared.write(self.amplitude, write, |state| state.entry(&register(name)).cloned())?)
    }

    /// Adds to a counter. Concurrent additions of all replicas count.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if the name is out of bounds.
    pub fn add(&self, counter: &str, by: i64) -> Result<(), FieldError> {
        let write = |state: &mut crate::core::State, wall| {
            state.add(counter, by, wall).map(|change| ((), vec![change]))
        };
        Ok(self.shared.write(self.amplitude, write, |_| None)?)
    }

    /// The sum of a counter; 0 if nobody has added to it.
    #[must_use]
    pub fn count(&self, counter: &str) -> i128 {
        self.shared.state().count(counter)
    }

    /// The sum of a counter and the sums of one of its writers, of the same moment; `None` if it has added nothing.
    #[must_use]
    pub fn count_of(&self, counter: &str, writer: WriterId) -> Option<(i128, Count)> {
        let state = self.shared.state();
        let count = state.count_of(counter, writer)?;
        Some((state.count(counter), count))
    }

    /// Adds a member to a set. A concurrent removal by another replica does not undo this.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if name or member are out of bounds.
    pub fn insert(&self, set: &str, member: impl Into<Bytes>) -> Result<(), FieldError> {
        let write = |state: &mut crate::core::State, wall| {
            state.insert(set, member.into(), wall).map(|changes| ((), changes))
        };
        Ok(self.shared.write(self.amplitude, write, |_| None)?)
    }

    /// Removes a member from a set. Returns whether it was in it.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if name or member are out of bounds.
    pub fn discard(&self, set: &str, member: impl Into<Bytes>) -> Result<bool, FieldError> {
        let write = |state: &mut crate::core::State, wall| {
            let changes = state.discard(set, &member.into(), wall)?;
            Ok((!changes.is_empty(), changes))
        };
        Ok(self.shared.write(self.amplitude, write, |_| None)?)
    }

    /// The members of a set, in order.
    #[must_use]
    pub fn members(&self, set: &str) -> Vec<Bytes> {
        self.shared.state().members(set).cloned().collect()
    }

    /// Watches the names that match a pattern from now on: a name, or the beginning of names and `*`.
    #[must_use]
    pub fn watch(&self, pattern: &str) -> Watch {
        self.watch_by(Writers::All, pattern)
    }

    /// Watches what all owners write, from now on.
    #[must_use]
    pub fn watch_owners(&self) -> Watch {
        self.watch_by(Writers::Owners, "*")
    }

    pub(super) fn watch_by(&self, writers: Writers, pattern: &str) -> Watch {
        let queue = WatchQueue::new(writers, pattern);
        self.shared.watch(&queue);
        Watch { queue }
    }

    /// The writes of this replica that lose from now on against concurrent ones. The winner is not told.
    #[must_use]
    pub fn superseded(&self) -> Superseded {
        let (sender, receiver) = mpsc::channel(KEPT);
        self.shared.superseded(sender, Losers::Own);
        Superseded { receiver }
    }

    /// The writes of any writer that lose from now on, at this replica, against concurrent ones. For those that
    /// [submit](Field::submit) changes of others.
    #[must_use]
    pub fn all_superseded(&self) -> Superseded {
        let (sender, receiver) = mpsc::channel(KEPT);
        self.shared.superseded(sender, Losers::All);
        Superseded { receiver }
    }

    /// The participants of the field: who is there, in all processes.
    #[must_use]
    pub fn presence(&self) -> Presence {
        Presence::new(Arc::clone(&self.shared.presence))
    }

    /// The other replicas that were heard in the last seconds.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let digest = self.digest();
        self.shared.peers.lock().list(digest)
    }

    /// The peers that join and leave from now on.
    #[must_use]
    pub fn peer_events(&self) -> PeerEvents {
        PeerEvents { receiver: self.shared.peers.lock().events() }
    }

    /// The identity of this replica's changes.
    #[must_use]
    pub fn writer(&self) -> WriterId {
        self.shared.state().writer()
    }

    /// The bounds of this replica.
    #[must_use]
    pub fn limits(&self) -> Limits {
        *self.shared.state().limits()
    }

    /// The digest of the whole state: replicas with equal digests have the same state.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.shared.state().digest()
    }

    /// The account of this replica.
    #[must_use]
    pub fn status(&self) -> FieldStatus {
        self.shared.status()
    }

    /// Waits until `replicas` other replicas have everything that this one has now. Each is asked for the digest of its
    /// state, which costs about 200 bytes; only one that answers with another digest is reconciled with. It waits for
    /// replicas to come if there are not enough, so bound it with a time-out. If those that are there refuse something, it
    /// waits no longer than others take to be heard.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is lost: what the others have they keep.
    ///
    /// # Errors
    /// [`FieldError::NotTaken`] if a replica refuses something and not enough others take it,
    /// [`FieldError::ClockBehind`] if this replica refuses something of the other because of its time, and
    /// [`FieldError::Closed`] if the field is closed meanwhile.
    pub async fn agreed(&self, replicas: usize) -> Result<(), FieldError> {
        let mut progress = self.shared.progress.subscribe();
        let (mut agreed, mut has_waited) = (BTreeSet::new(), false);
        self.syncer.send().await;
        while agreed.len() < replicas {
            if self.running.stop.is_cancelled() {
                return Err(FieldError::Closed);
            }
            progress.mark_unchanged();
            let peers = self.shared.peers.lock().writers();
            let (mut refusal, mut is_unanswered) = (None, false);
            for peer in peers {
                if agreed.len() < replicas && !agreed.contains(&peer) {
                    match self.has_all(peer).await {
                        Ok(true) => drop(agreed.insert(peer)),
                        Ok(false) => is_unanswered = true,
                        Err(error) => refusal = Some(error),
                    }
                }
            }
            if agreed.len() >= replicas {
                break;
            }
            match refusal {
                Some(error) if has_waited => return Err(error),
                // Others that are there are heard until then.
                Some(_) => has_waited = true,
                None => {}
            }
            tokio::select! {
                biased;
                () = self.running.stop.cancelled() => return Err(FieldError::Closed),
                // A peer came, or another reconciliation has ended.
                changed = progress.changed(), if !has_waited => changed.map_err(|_| FieldError::Closed)?,
                // One that did not answer in time is asked again: nothing else may happen if both have the same state.
                () = tokio::time::sleep(HEARD), if has_waited || is_unanswered => {}
            }
        }
        Ok(())
    }

    /// Whether a peer has everything that this replica had when it was called; makes it so if it does not.
    async fn has_all(&self, peer: WriterId) -> Result<bool, FieldError> {
        // The first question may overtake the change on the last few metres; the second one is cheaper than a
        // reconciliation.
        for _ in 0..2 {
            match self.syncer.agrees(peer).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(_) => return Ok(false),
            }
        }
        let Ok(Exchanged { here, there, .. }) = self.syncer.with(peer).await else { return Ok(false) };
        let (replica, clock) = {
            let peers = self.shared.peers.lock();
            (peers.name(peer), peers.clock(peer))
        };
        if let Some((&reason, &refused)) = there.first_key_value() {
            let clock = clock.filter(|_| reason == RefusalReason::Clock);
            return Err(FieldError::NotTaken { replica, refused, reason, clock });
        }
        match here.get(&RefusalReason::Clock) {
            Some(&refused) => Err(FieldError::ClockBehind { replica, refused, clock }),
            None => Ok(true),
        }
    }

    /// Waits until everything that this replica has now is in its store, and synced to the disk. A store that has failed is
    /// tried again every 5 s, and this waits for the next attempt. Cancel safe.
    ///
    /// # Errors
    /// [`FieldError::NoStore`], or [`FieldError::Store`] if the store failed.
    #[cfg(feature = "store")]
    pub async fn durable(&self) -> Result<(), FieldError> {
        let store = self.shared.store.as_ref().ok_or(FieldError::NoStore)?;
        store.durable(false).await.map_err(FieldError::Store)
    }

    /// Why changes are not stored, while the store fails: for a readiness check. The field goes on in memory, and
    /// waiting changes are stored when the store works again, or when the field is closed.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn store_failure(&self) -> Option<std::sync::Arc<super::store::StoreError>> {
        self.shared.store.as_ref()?.failure()
    }

    /// The contents saved when the store was opened, if its file was damaged.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn salvage(&self) -> Option<&super::store::Salvage> {
        self.shared.store.as_ref()?.salvage.as_ref()
    }

    /// Leaves the field: sends what waits, tells the others, and syncs the store. All handles are closed by it.
    ///
    /// # Errors
    /// [`FieldError::Store`] if the last changes could not be stored.
    pub async fn close(self) -> Result<(), FieldError> {
        self.running.stop.cancel();
        let task = self.running.task.lock().take();
        if let Some(task) = task {
            // Fails only if the runtime ends.
            let _ = task.await;
        }
        #[cfg(feature = "store")]
        if let Some(store) = &self.shared.store {
            // One that has failed is tried once more.
            store.durable(true).await.map_err(FieldError::Store)?;
        }
        Ok(())
    }
}

/// A value as JSON.
pub(super) fn json_of(name: &str, value: &(impl Serialize + ?Sized)) -> Result<Bytes, FieldError> {
    // The entry keeps the value for long: without the spare room of the vector.
    let value = serde_json::to_vec(value).map_err(FieldError::Serialize)?.into_boxed_slice();
    if *value == *b"null" {
        return Err(FieldError::Null { name: name.to_owned() });
    }
    Ok(value.into())
}

pub(super) fn read<T: DeserializeOwned>(name: &str, value: &[u8]) -> Result<T, FieldError> {
    serde_json::from_slice(value).map_err(|source| FieldError::Deserialize { name: name.to_owned(), source })
}

fn register(name: &str) -> Key {
    Key::Register(name.into())
}
