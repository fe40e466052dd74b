//! A replica of shared state.

use std::collections::HashMap;
use std::sync::Arc;

use aether::field::core::WriterId;
use aether::field::{Field as Replica, Peer, PeerEvent, SupersededValues, Update, UpdateKind, Watch};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use parking_lot::{Mutex, RwLock};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::errors::Failure;
use crate::errors::exceptions::ClosedError;
use crate::identity::{Certificate, Identity, public_key};
use crate::json::{Nothing, json_of, value_of};
use crate::process::{Owned, Process};
use crate::stream::{Item, Stream};
use crate::waiting::Task;

/// The names of writers that are kept. A writer has a new id after each start; beyond this, names are looked up again.
const MAX_WRITERS: usize = 1024;

/// Changes that are taken at once, so that a burst does not wait for a thread with each of them.
const AT_ONCE: usize = 64;

/// A replica of a field.
#[pyclass(frozen)]
pub(crate) struct Field {
    process: Process,
    open: Owned<Arc<Open>>,
}

/// A replica until it is closed, for all that look at it. Nothing else keeps it, so its file is free once it is closed.
struct Open {
    replica: RwLock<Option<Replica>>,
    /// The names of the replicas, by the ids of their writers.
    names: Mutex<HashMap<u64, String>>,
}

impl Open {
    /// The name of a writer: of a replica that is there or was, or the id in hexadecimal.
    fn name(&self, writer: WriterId) -> String {
        let mut names = self.names.lock();
        if let Some(name) = names.get(&writer.0) {
            return name.clone();
        }
        let Some(replica) = self.replica.read().clone() else { return writer.to_string() };
        let peer = replica.peers().into_iter().find(|peer| peer.writer == writer);
        let Some(peer) = peer else { return writer.to_string() };
        if names.len() >= MAX_WRITERS {
            names.retain(|&id, _| id == replica.writer().0);
        }
        names.insert(writer.0, peer.replica.clone());
        peer.replica
    }
}

impl Field {
    pub(crate) fn new(replica: Replica, name: String, process: &Process) -> Self {
        let names = HashMap::from([(replica.writer().0, name)]);
        let open = Open { replica: RwLock::new(Some(replica)), names: Mutex::new(names) };
        Self { process: process.clone(), open: Owned::new(Arc::new(open), process) }
    }

    /// The replica; `ClosedError` once it is closed.
    pub(crate) fn replica(&self) -> PyResult<Replica> {
        let replica = self.open.get()?.replica.read().clone();
        replica.ok_or_else(|| ClosedError::new_err("the field is closed: open it again"))
    }

    fn watching(
        &self,
        watch: Watch,
        item: impl Fn(Update, String) -> Option<Item> + Send + 'static,
    ) -> PyResult<Stream> {
        let open = Arc::clone(self.open.get()?);
        let updates = unfold(watch, async |mut watch| watch.next().await.map(|update| (update, watch)));
        let items = updates.filter_map(move |update| {
            let by = open.name(update.by());
            std::future::ready(item(update, by))
        });
        Ok(Stream::new(items.boxed(), AT_ONCE, &self.process))
    }
}

/// A register that has changed, as `(key, old, new, by, owner)`.
fn change(update: Update, by: String) -> Option<Item> {
    let UpdateKind::Register { old, new } = update.kind() else { return None };
    let (old, new) = (old.clone(), new.clone());
    Some(Box::new(move |py| {
        let (old, new) = (optional(py, old.as_ref())?, optional(py, new.as_ref())?);
        any(py, (update.name(), old, new, by, update.owner()))
    }))
}

/// A counter that has changed, as `(name, sum, by)`.
fn counter(update: Update, by: String) -> Option<Item> {
    let UpdateKind::Counter { sum } = *update.kind() else { return None };
    Some(Box::new(move |py| any(py, (update.name(), sum, by))))
}

/// A member that has come or gone, as `(name, member, is_member, by)`.
fn member(update: Update, by: String) -> Option<Item> {
    let UpdateKind::Member { member, is_member } = update.kind() else { return None };
    let (member, is_member) = (member.clone(), *is_member);
    Some(Box::new(move |py| any(py, (update.name(), PyBytes::new(py, &member), is_member, by))))
}

/// A value, or `None`.
fn optional(py: Python<'_>, json: Option<&Bytes>) -> PyResult<Option<Py<PyAny>>> {
    json.map(|json| value_of(py, json)).transpose()
}

fn any<'py, T: IntoPyObject<'py>>(py: Python<'py>, value: T) -> PyResult<Py<PyAny>> {
    use pyo3::BoundObject as _;

    Ok(value.into_pyobject(py).map_err(Into::into)?.into_any().unbind())
}

fn pairs(py: Python<'_>, entries: Vec<(String, Bytes)>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (name, json) in entries {
        dict.set_item(name, value_of(py, &json)?)?;
    }
    Ok(dict)
}

/// A peer as `(name, owner, agrees, entries, clock)`, the last in seconds by which its clock is ahead.
type PeerTuple = (String, Option<String>, bool, u64, f64);

fn peer_of(peer: Peer) -> PeerTuple {
    let by = peer.clock.by().as_secs_f64();
    (peer.replica, peer.owner, peer.agrees, peer.entries, if peer.clock.is_behind() { -by } else { by })
}

#[pymethods]
impl Field {
    /// The name of the field.
    #[getter]
    fn name(&self) -> PyResult<String> {
        Ok(self.replica()?.name().to_owned())
    }

    /// The id of this replica's writes, by which others that have no name for it call it.
    #[getter]
    fn writer(&self) -> PyResult<String> {
        Ok(self.replica()?.writer().to_string())
    }

    fn set(&self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let json = json_of(value, Nothing::IsRefused)?;
        let replica = self.replica()?;
        let raw = raw(json)?;
        // A lock that a thread of the network may hold for a moment.
        Ok(value.py().detach(|| replica.set(key, &raw)).map_err(Failure::from)?)
    }

    /// The value; `KeyError` if there is none.
    fn get(&self, py: Python<'_>, key: &str) -> PyResult<Py<PyAny>> {
        match self.replica()?.get_json(key) {
            Some(json) => value_of(py, &json),
            None => Err(PyKeyError::new_err(key.to_owned())),
        }
    }

    fn has(&self, key: &str) -> PyResult<bool> {
        Ok(self.replica()?.get_json(key).is_some())
    }

    fn remove(&self, py: Python<'_>, key: &str) -> PyResult<bool> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.remove(key)).map_err(Failure::from)?)
    }

    /// The keys that match a pattern.
    fn keys(&self, py: Python<'_>, pattern: &str) -> PyResult<Vec<String>> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.list(pattern).into_iter().map(|(name, _)| name).collect()))
    }

    /// The keys that match a pattern, and their values, as a new dict.
    fn items<'py>(&self, py: Python<'py>, pattern: &str) -> PyResult<Bound<'py, PyDict>> {
        let replica = self.replica()?;
        pairs(py, py.detach(|| replica.list(pattern)))
    }

    fn add(&self, py: Python<'_>, counter: &str, by: i64) -> PyResult<()> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.add(counter, by)).map_err(Failure::from)?)
    }

    fn count(&self, counter: &str) -> PyResult<i128> {
        Ok(self.replica()?.count(counter))
    }

    fn insert(&self, py: Python<'_>, set: &str, member: Vec<u8>) -> PyResult<()> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.insert(set, member)).map_err(Failure::from)?)
    }

    fn discard(&self, py: Python<'_>, set: &str, member: Vec<u8>) -> PyResult<bool> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.discard(set, member)).map_err(Failure::from)?)
    }

    fn members<'py>(&self, py: Python<'py>, set: &str) -> PyResult<Bound<'py, PyList>> {
        let members = self.replica()?.members(set);
        PyList::new(py, members.iter().map(|member| PyBytes::new(py, member)))
    }

    /// The name of the owner whose identity this replica has.
    fn own_name(&self) -> PyResult<String> {
        Ok(self.replica()?.own().map_err(Failure::from)?.name().to_owned())
    }

    fn own_set(&self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let raw = raw(json_of(value, Nothing::IsRefused)?)?;
        let replica = self.replica()?;
        let set = || replica.own()?.set(key, &raw);
        Ok(value.py().detach(set).map_err(Failure::from)?)
    }

    fn own_remove(&self, py: Python<'_>, key: &str) -> PyResult<bool> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.own()?.remove(key)).map_err(Failure::from)?)
    }

    /// Replaces the key of this replica's owner.
    fn rotate(&self, py: Python<'_>, next: &Identity) -> PyResult<()> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.own()?.rotate(&next.0)).map_err(Failure::from)?)
    }

    /// Whether the owner is trusted with this key now.
    fn trust(&self, py: Python<'_>, owner: &str, key: &str) -> PyResult<bool> {
        let (replica, key) = (self.replica()?, public_key(key)?);
        Ok(py.detach(|| replica.trust(owner, key)).map_err(Failure::from)?)
    }

    fn publish(&self, py: Python<'_>, certificate: &Certificate) -> PyResult<()> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.publish(&certificate.0)).map_err(Failure::from)?)
    }

    /// The value of an owner; `KeyError` if there is none.
    fn owner_get(&self, py: Python<'_>, owner: &str, key: &str) -> PyResult<Py<PyAny>> {
        match self.replica()?.of(owner).get_json(key) {
            Some(json) => value_of(py, &json),
            None => Err(PyKeyError::new_err(key.to_owned())),
        }
    }

    /// The keys of an owner that match a pattern, and their values, as a new dict.
    fn owner_items<'py>(&self, py: Python<'py>, owner: &str, pattern: &str) -> PyResult<Bound<'py, PyDict>> {
        let owner = self.replica()?.of(owner);
        pairs(py, py.detach(|| owner.list(pattern)))
    }

    /// The public key of an owner, if one is known.
    fn owner_key(&self, owner: &str) -> PyResult<Option<String>> {
        Ok(self.replica()?.of(owner).key().map(|(key, _)| key.to_string()))
    }

    fn owners(&self) -> PyResult<Vec<String>> {
        Ok(self.replica()?.owners())
    }

    /// The stream of `(key, old, new, by, owner)`.
    #[pyo3(signature = (pattern, owner = None))]
    fn watch(&self, pattern: &str, owner: Option<&str>) -> PyResult<Stream> {
        let replica = self.replica()?;
        let watch = match owner {
            Some(owner) => replica.of(owner).watch(pattern),
            None => replica.watch(pattern),
        };
        self.watching(watch, change)
    }

    /// The stream of `(key, old, new, by, owner)` of all owners.
    fn watch_owners(&self) -> PyResult<Stream> {
        self.watching(self.replica()?.watch_owners(), change)
    }

    /// The stream of `(name, sum, by)`.
    fn watch_counter(&self, name: &str) -> PyResult<Stream> {
        self.watching(self.replica()?.watch(name), counter)
    }

    /// The stream of `(name, member, is_member, by)`.
    fn watch_members(&self, name: &str) -> PyResult<Stream> {
        self.watching(self.replica()?.watch(name), member)
    }

    /// The stream of `(key, lost, value, by)`.
    fn superseded(&self) -> PyResult<Stream> {
        let losses = self.replica()?.superseded();
        let open = Arc::clone(self.open.get()?);
        let losses = unfold(losses, async |mut losses| losses.next().await.map(|loss| (loss, losses)));
        let items = losses.map(move |loss: SupersededValues| -> Item {
            let by = loss.by().map(|writer| open.name(writer));
            Box::new(move |py| {
                let (lost, value) = (optional(py, loss.lost.as_ref())?, optional(py, loss.winner.as_ref())?);
                any(py, (loss.name, lost, value, by))
            })
        });
        Ok(Stream::new(items.boxed(), AT_ONCE, &self.process))
    }

    /// The other replicas, each as `(name, owner, agrees, entries, clock)`.
    fn peers(&self, py: Python<'_>) -> PyResult<Vec<PeerTuple>> {
        let replica = self.replica()?;
        Ok(py.detach(|| replica.peers().into_iter().map(peer_of).collect()))
    }

    /// The stream of `(event, peer)`, where the event is `joined`, `proven`, or `left`, and of `(missed, number)`.
    fn watch_peers(&self) -> PyResult<Stream> {
        let events = self.replica()?.peer_events();
        let events = unfold(events, async |mut events| events.next().await.map(|event| (event, events)));
        let items = events.filter_map(|event| {
            let item: Option<Item> = match event {
                PeerEvent::Joined(peer) => Some(Box::new(|py| any(py, ("joined", peer_of(peer))))),
                PeerEvent::Proven(peer) => Some(Box::new(|py| any(py, ("proven", peer_of(peer))))),
                PeerEvent::Left(peer) => Some(Box::new(|py| any(py, ("left", peer_of(peer))))),
                PeerEvent::Missed(missed) => Some(Box::new(move |py| any(py, ("missed", missed)))),
                _ => None,
            };
            std::future::ready(item)
        });
        Ok(Stream::new(items.boxed(), AT_ONCE, &self.process))
    }

    fn announce(&self, id: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let raw = raw(json_of(value, Nothing::IsAValue)?)?;
        let presence = self.replica()?.presence();
        Ok(value.py().detach(|| presence.announce(id, &raw)).map_err(Failure::from)?)
    }

    fn leave(&self, id: &str) -> PyResult<bool> {
        Ok(self.replica()?.presence().leave(id))
    }

    /// The participants and their values, as a new dict.
    fn participants<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        pairs(py, self.replica()?.presence().list())
    }

    /// The stream of `(id, is_present, value)`.
    fn watch_presence(&self) -> PyResult<Stream> {
        let watch = self.replica()?.presence().watch();
        let updates = unfold(watch, async |mut watch| watch.next().await.map(|update| (update, watch)));
        let items = updates.map(|update| -> Item {
            Box::new(move |py| any(py, (update.id(), update.is_present(), optional(py, update.json())?)))
        });
        Ok(Stream::new(items.boxed(), AT_ONCE, &self.process))
    }

    /// The account of this replica.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = self.replica()?.status();
        let dict = PyDict::new(py);
        for (name, number) in [
            ("entries", status.entries),
            ("written", status.written),
            ("received", status.received),
            ("refused", status.refused),
            ("from_future", status.from_future),
            ("unknown_owners", status.unknown_owners),
            ("foreign_keys", status.foreign_keys),
            ("forged", status.forged),
            ("unchecked", status.unchecked),
            ("voided", status.voided),
            ("participants", status.participants),
            ("participants_refused", status.participants_refused),
            ("unreadable", status.unreadable),
            ("forgotten", status.forgotten),
            ("superseded", status.superseded),
            ("unreported", status.unreported),
            ("reconciliations", status.reconciliations),
            ("broken_off", status.broken_off),
            ("damaged", status.damaged),
        ] {
            dict.set_item(name, number)?;
        }
        Ok(dict)
    }

    /// The text of a problem with clocks or with the store, if there is one.
    fn trouble(&self) -> PyResult<Option<String>> {
        let replica = self.replica()?;
        let store = replica.store_failure().map(|error| crate::errors::chain(&*error));
        Ok(store.or_else(|| replica.clock_trouble().map(|trouble| trouble.to_string())))
    }

    /// Returns a task.
    fn durable(&self) -> PyResult<Task> {
        let replica = self.replica()?;
        Ok(Task::spawn(&self.process, async move { Ok(replica.durable().await.map_err(Failure::from)?) }))
    }

    /// Returns a task.
    fn agreed(&self, replicas: usize) -> PyResult<Task> {
        let replica = self.replica()?;
        Ok(Task::spawn(
            &self.process,
            async move { Ok(replica.agreed(replicas).await.map_err(Failure::from)?) },
        ))
    }

    /// Returns a task.
    fn close(&self) -> PyResult<Task> {
        let Some(replica) = self.open.get()?.replica.write().take() else {
            return Ok(Task::spawn(&self.process, async { Ok(()) }));
        };
        Ok(Task::spawn(&self.process, async move { Ok(replica.close().await.map_err(Failure::from)?) }))
    }
}

fn raw(json: Vec<u8>) -> Result<Box<serde_json::value::RawValue>, Failure> {
    let text = String::from_utf8(json).map_err(|error| Failure::refused(error.to_string()))?;
    serde_json::value::RawValue::from_string(text).map_err(|error| Failure::refused(error.to_string()))
}
