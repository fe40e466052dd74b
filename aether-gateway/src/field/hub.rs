//! One field of a gateway: carries out the writes of clients, and passes changes on to all who want them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_field::core::{ClientWrite, Entry, Limits, Operation, Stamp, Submitted, WriterId};
use aether_field::{Field, FieldError, Names, Superseded, SupersededValues, Watch};
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::change::Change;
use super::counts::{Counts, Dropped, FieldLine, Refused};
use super::effect::{About, Close, Outcome, Subscription, Write};
use super::history::History;
use super::limits::SecurityLimits;
use super::outbox::Outbox;
use super::queue::Pushed;
use super::shares::{Holder, Shares};
use super::v1;
use crate::access::{Access, Rights};
use crate::admission::Admission;
use crate::origin::Origins;

/// The number of writes of clients that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// The number of whole snapshots, as protocol 0.4 needs them, that may be in memory at once.
const WHOLE_SNAPSHOTS: usize = 4;

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) name: String,
    pub(super) field: Field,
    /// Revisions count within it. It is another one after each start, and at each gateway.
    epoch: String,
    pub(super) limits: SecurityLimits,
    pub(super) access: Arc<Access>,
    pub(super) origins: Arc<Origins>,
    pub(super) admission: Arc<Admission>,
    shares: Shares,
    /// The whole snapshots that may be in memory at once.
    pub(super) snapshots: Arc<Semaphore>,
    pub(super) counts: Counts,
    inner: Mutex<Inner>,
    /// The revision up to which changes were pushed to all clients.
    settled: AtomicU64,
    /// The writers and the numbers of writes that have stood here, and were not superseded. One that comes again after
    /// somebody who had seen it replaced it is not reported as lost.
    stood: Mutex<LruCache<(WriterId, u32), ()>>,
    sources: Mutex<Option<(Watch, Superseded)>>,
}

#[derive(Debug)]
struct Inner {
    history: History,
    clients: BTreeMap<u64, Client>,
    next: u64,
}

#[derive(Debug)]
struct Client {
    outbox: Arc<Outbox>,
    writer: Option<WriterId>,
    rights: Rights,
}

/// The place of a client among those that get changes. Dropping it takes the client out.
#[derive(Debug)]
pub(super) struct Registered {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.hub.inner.lock().clients.remove(&self.number);
    }
}

impl Hub {
    pub(super) fn new(
        name: String,
        field: Field,
        limits: SecurityLimits,
        access: Arc<Access>,
        origins: Arc<Origins>,
    ) -> Arc<Self> {
        let sources = Mutex::new(Some((field.watch("*"), field.all_superseded())));
        let history = History::new(limits.max_oplog_size);
        Arc::new(Self {
            name,
            epoch: uuid::Uuid::new_v4().simple().to_string(),
            access,
            origins,
            admission: Admission::new(limits.max_connections_total, limits.max_connections_per_source),
            shares: Shares::new(&field.limits()),
            snapshots: Arc::new(Semaphore::new(WHOLE_SNAPSHOTS)),
            field,
            limits,
            counts: Counts::default(),
            inner: Mutex::new(Inner { history, clients: BTreeMap::new(), next: 0 }),
            settled: AtomicU64::new(0),
            stood: Mutex::new(LruCache::new(REMEMBERED)),
            sources,
        })
    }

    /// Passes changes and losses on until the field or the gateway ends.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let Some((mut watch, mut superseded)) = self.sources.lock().take() else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                update = watch.next() => match update {
                    Some(update) => {
                        if let Some(change) = Change::of(&self.field, &update) {
                            self.push(&change);
                        }
                    }
                    None => return,
                },
                Some(values) = superseded.next() => {
                    self.tell(&values);
                }
            }
        }
    }

    fn push(&self, change: &Arc<Change>) {
        let mut inner = self.inner.lock();
        let revision = inner.history.note(&change.slot);
        for client in inner.clients.values() {
            match client.outbox.push(revision, change) {
                Some(Pushed::Coalesced) => Counts::one(&self.counts.coalesced),
                Some(Pushed::Overflowed) => Counts::one(&self.counts.resynced),
                Some(Pushed::Queued) | None => {}
            }
        }
        // Under the lock, so that a client that subscribes gets each change either so or with its snapshot.
        self.settled.store(revision, Ordering::Release);
    }

    /// Tells the loser, if it is here.
    fn tell(&self, values: &SupersededValues) {
        let Stamp { writer, logical, .. } = values.lost_stamp;
        self.stood.lock().pop(&(writer, logical));
        let inner = self.inner.lock();
        for client in inner.clients.values().filter(|client| client.writer == Some(writer)) {
            Counts::one(&self.counts.superseded);
            let message = v1::superseded(values, client.rights.may_read(&values.name));
            if !client.outbox.reply(message) {
                self.counts.give_up(Dropped::Stalled);
                client.outbox.close(Close::STALLED);
            }
        }
    }

    pub(super) fn register(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        writer: Option<WriterId>,
        rights: Rights,
    ) -> Registered {
        Counts::one(&self.counts.admitted);
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.clients.insert(number, Client { outbox: Arc::clone(outbox), writer, rights });
        Registered { hub: Arc::clone(self), number }
    }

    /// Starts the subscription of a client, which has everything up to a revision if it is known.
    pub(super) fn subscribe(&self, outbox: &Outbox, subscription: Subscription, answers: bool) {
        let Subscription { names, cursor, presence } = subscription;
        let epoch = self.epoch_of(&names);
        let inner = self.inner.lock();
        let known = cursor.filter(|(known, _)| **known == *epoch).map(|(_, revision)| revision);
        let missed = known.and_then(|revision| inner.history.since(revision));
        let resumed = outbox.subscribe((names, Arc::clone(&epoch)), presence, missed);
        if answers {
            let revision = if resumed { known.unwrap_or_default() } else { inner.history.revision() };
            // Before the changes, because replies go first. A full outbox is closed by its reader.
            let _ = outbox.reply(v1::subscribed(resumed, &epoch, revision));
        }
    }

    /// The epoch of cursors for these names: a cursor for other names does not apply to them.
    fn epoch_of(&self, names: &[Names]) -> Arc<str> {
        let patterns: BTreeSet<_> = names.iter().map(Names::to_string).collect();
        let mut hasher = Sha256::new();
        for pattern in patterns {
            hasher.update((pattern.len() as u64).to_be_bytes());
            hasher.update(pattern);
        }
        let hash = hasher.finalize();
        let hash = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{}-{hash}", self.epoch).into()
    }

    /// The revision up to which changes were pushed to all clients.
    pub(super) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// The bounds of the field.
    pub(super) fn field_limits(&self) -> Limits {
        self.field.limits()
    }

    /// Carries out a write.
    pub(super) fn write(&self, write: &Write, holder: Holder) -> Outcome {
        if !self.shares.has_room(holder) {
            self.counts.refuse(Refused::Share);
            let message =
                "this token, or this address, has added as many entries as one may; removals count, too";
            return Outcome::Refused { code: "share", message: message.to_owned() };
        }
        let outcome = match &write.about {
            Some(about) => self.write_as(about, &write.operation, holder),
            None => self.write_now(&write.operation, holder),
        };
        match outcome {
            Ok(outcome) => {
                Counts::one(&self.counts.written);
                if matches!(outcome, Outcome::Lost { .. }) {
                    Counts::one(&self.counts.superseded);
                }
                outcome
            }
            Err(error) => Outcome::Refused { code: "field", message: error.to_string() },
        }
    }

    /// A write without an identity: made now, by the gateway.
    fn write_now(&self, operation: &Operation, holder: Holder) -> Result<Outcome, FieldError> {
        match operation {
            Operation::Set { key, value } => {
                let is_new = self.field.register(key).is_none();
                self.field.set_json(key, value.clone())?;
                self.shares.charge(holder, is_new.into());
            }
            Operation::Delete { key } => {
                if !self.field.remove(key)? {
                    return Ok(Outcome::Unchanged);
                }
            }
            // Protocol 0.4 has registers only.
            Operation::Count { .. } | Operation::Insert { .. } | Operation::Discard { .. } => {}
        }
        Ok(Outcome::Applied { version: Stamp::default() })
    }

    fn write_as(&self, about: &About, operation: &Operation, holder: Holder) -> Result<Outcome, FieldError> {
        let About { stamp: made, seen, .. } = *about;
        let submitted = self.field.submit_write(ClientWrite { made, seen, operation: operation.clone() })?;
        let mut stood = self.stood.lock();
        let id = (made.writer, made.logical);
        Ok(match submitted {
            Submitted::Applied { stamp, created } => {
                self.shares.charge(holder, created);
                stood.put(id, ());
                Outcome::Applied { version: stamp }
            }
            Submitted::Lost { stamp, .. } if stood.contains(&id) => Outcome::Applied { version: stamp },
            Submitted::Lost { stamp, winner } => {
                let (value, winner) =
                    winner.map_or((None, None), |Entry { stamp, value, .. }| (value, Some(stamp)));
                Outcome::Lost { version: stamp, value, winner }
            }
        })
    }

    pub(super) fn line(&self) -> FieldLine {
        let inner = self.inner.lock();
        let status = self.field.status();
        let owners = status.unknown_owners + status.foreign_keys + status.forged + status.unchecked;
        let refused_changes = [
            ("clock", status.from_future),
            ("trust", owners),
            ("bounds", status.refused.saturating_sub(owners + status.from_future)),
        ];
        FieldLine {
            refused_changes: refused_changes.into(),
            entries: status.entries,
            replicas: self.field.peers().len() + 1,
            clients: inner.clients.len(),
            queued_changes: inner.clients.values().map(|client| client.outbox.queued()).sum(),
            ..self.counts.read(&self.name)
        }
    }
}

/// The wall clock in microseconds since 1970. A clock before 1970 counts as 0.
pub(super) fn wall() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}
