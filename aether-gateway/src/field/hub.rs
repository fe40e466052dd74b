//! One field of a gateway: carries out the writes of clients, and passes changes on to all who want them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_field::core::{Applied, ClientWrite, Entry, Limits, Operation, Stamp, Submitted, WriterId};
use aether_field::{Field, FieldError, Superseded, SupersededValues, Watch};
use futures_util::FutureExt as _;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::change::Change;
use super::counts::{Counts, Dropped, FieldLine, Refused};
use super::effect::{About, Close, Outcome, OwnedWrite, Since, Subscription, Write};
use super::history::History;
use super::limits::SecurityLimits;
use super::outbox::Outbox;
use super::queue::Pushed;
use super::selection::Selection;
use super::shares::{Holder, Shares};
use super::v1;
use super::visits::Visits;
use crate::access::{Access, Rights};
use crate::admission::Admission;
use crate::origin::Origins;

/// The number of writes of clients that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// The number of whole snapshots, as protocol 0.4 needs them, that may be in memory at once.
const WHOLE_SNAPSHOTS: usize = 4;

/// The number of changes that are synced at once, at most.
const SYNCED: usize = 1024;

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
    pub(super) visits: Visits,
    /// The whole snapshots that may be in memory at once.
    pub(super) snapshots: Arc<Semaphore>,
    pub(super) counts: Counts,
    inner: Mutex<Inner>,
    /// The revision up to which changes were pushed to all clients.
    settled: AtomicU64,
    /// The writers and the numbers of writes that have stood here, and were not superseded. One that comes again after
    /// somebody who had seen it replaced it is not reported as lost.
    stood: Mutex<LruCache<(WriterId, u32), ()>>,
    sources: Mutex<Option<Sources>>,
}

/// The events of the field.
#[derive(Debug)]
struct Sources {
    open: Watch,
    owned: Watch,
    superseded: Superseded,
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
        let (open, owned) = (field.watch("*"), field.watch_owners());
        let sources = Mutex::new(Some(Sources { open, owned, superseded: field.all_superseded() }));
        let history = History::new(limits.max_oplog_size);
        Arc::new(Self {
            name,
            epoch: uuid::Uuid::new_v4().simple().to_string(),
            access,
            origins,
            admission: Admission::new(limits.max_connections_total, limits.max_connections_per_source),
            shares: Shares::new(&field.limits()),
            visits: Visits::new(&limits),
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
        let Some(mut sources) = self.sources.lock().take() else { return };
        loop {
            let update = tokio::select! {
                () = stop.cancelled() => return,
                update = sources.open.next() => update,
                update = sources.owned.next() => update,
                Some(values) = sources.superseded.next() => {
                    self.tell(&values);
                    continue;
                }
            };
            let Some(update) = update else { return };
            let mut more = Vec::new();
            if self.limits.durable_echo {
                // One sync for all that wait at this moment.
                while more.len() < SYNCED
                    && let Some(Some(update)) = sources.open.next().now_or_never()
                {
                    more.push(update);
                }
                let synced = tokio::select! {
                    () = stop.cancelled() => return,
                    synced = self.field.durable() => synced,
                };
                if let Err(error) = synced {
                    tracing::error!(%error, field = self.name, "changes are not on the disk, so the clients are disconnected");
                    self.close_all(Close::NOT_ON_DISK);
                    continue;
                }
            }
            for update in std::iter::once(&update).chain(&more) {
                if let Some(change) = Change::of(&self.field, update) {
                    self.push(&change);
                }
            }
        }
    }

    fn close_all(&self, close: Close) {
        self.inner.lock().clients.values().for_each(|client| client.outbox.close(close));
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
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.clients.insert(number, Client { outbox: Arc::clone(outbox), writer, rights });
        Registered { hub: Arc::clone(self), number }
    }

    /// Starts or changes the subscription of a client.
    pub(super) fn subscribe(&self, outbox: &Outbox, subscription: Subscription, answers: bool) {
        let Subscription { selection, since, presence } = subscription;
        let epoch = self.epoch_of(&selection);
        let inner = self.inner.lock();
        let settled = inner.history.revision();
        let with = (selection, Arc::clone(&epoch));
        let has_until = match since {
            Since::Before => outbox.change_subscription(with, presence, settled),
            Since::Start => {
                outbox.subscribe(with, presence, None::<std::iter::Empty<_>>);
                None
            }
            Since::Cursor(known, revision) => {
                let missed = (*known == *epoch).then(|| inner.history.since(revision)).flatten();
                outbox.subscribe(with, presence, missed).then_some(revision)
            }
        };
        if answers {
            // Before the changes, because replies go first. A full outbox is closed by its reader.
            let _ = outbox.reply(v1::subscribed(has_until.is_some(), &epoch, has_until.unwrap_or(settled)));
        }
    }

    /// The epoch of cursors for a selection: a cursor for another one does not apply to it.
    fn epoch_of(&self, selection: &Selection) -> Arc<str> {
        format!("{}-{}", self.epoch, selection.hash(&[])).into()
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
            return self.no_share();
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

    /// Passes on an entry that its owner has signed.
    pub(super) fn submit(&self, write: &OwnedWrite, holder: Holder) -> Outcome {
        if !self.shares.has_room(holder) {
            return self.no_share();
        }
        let change = write.change.clone();
        let (key, stamp) = (change.key.clone(), change.entry.stamp);
        match self.field.submit(change) {
            Ok(Applied::Changed { old }) => {
                self.shares.charge(holder, old.is_none().into());
                Counts::one(&self.counts.written);
                Outcome::Applied { version: stamp }
            }
            Ok(Applied::Known | Applied::Gone) => {
                let standing = self.field.entry(&key).map(|entry| entry.stamp);
                match standing.filter(|standing| *standing > stamp) {
                    Some(later) => {
                        let message = format!("the owner has signed a later entry, {later}");
                        Outcome::Refused { code: "version", message }
                    }
                    None => Outcome::Applied { version: stamp },
                }
            }
            Err(error) => Outcome::Refused { code: "field", message: error.to_string() },
        }
    }

    fn no_share(&self) -> Outcome {
        self.counts.refuse(Refused::Share);
        let message =
            "this token, or this address, has added as many entries as one may; removals count, too";
        Outcome::Refused { code: "share", message: message.to_owned() }
    }

    pub(super) fn line(&self) -> FieldLine {
        let inner = self.inner.lock();
        let status = self.field.status();
        let by_reason = [
            ("clock", status.from_future),
            ("unknown_owner", status.unknown_owners),
            ("foreign_key", status.foreign_keys),
            ("forged", status.forged),
            ("unchecked", status.unchecked),
        ];
        let named: u64 = by_reason.iter().map(|(_, changes)| changes).sum();
        let mut refused_changes: BTreeMap<_, _> = by_reason.into();
        refused_changes.insert("bounds", status.refused.saturating_sub(named));
        let events = [
            ("received", status.received),
            ("voided", status.voided),
            ("forgotten", status.forgotten),
            ("unreadable", status.unreadable),
            ("participant_refused", status.participants_refused),
            ("unreported", status.unreported),
            ("reconciled", status.reconciliations),
            ("broken_off", status.broken_off),
            ("damaged", status.damaged),
        ];
        FieldLine {
            refused_changes,
            events: events.into(),
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
