//! One field of a gateway: carries out the writes of clients, and passes changes on to all who want them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_field::core::{Applied, Change as FieldChange, Entry, Key, Limits, Stamp, WriterId};
use aether_field::{Field, FieldError, Superseded, Watch};
use lru::LruCache;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::change::Change;
use super::counts::{Counts, Dropped, FieldLine};
use super::effect::{About, Close, Operation, Outcome, Replaces, Subscription, Write};
use super::history::History;
use super::limits::SecurityLimits;
use super::outbox::Outbox;
use super::queue::Pushed;
use super::v1;
use crate::access::Access;
use crate::admission::Admission;
use crate::origin::Origins;

/// The number of clients whose newest write is remembered.
const WRITERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) name: String,
    pub(super) field: Field,
    /// Revisions count within it. It is another one after each start, and at each gateway.
    pub(super) epoch: String,
    pub(super) limits: SecurityLimits,
    pub(super) access: Arc<Access>,
    pub(super) origins: Arc<Origins>,
    pub(super) admission: Arc<Admission>,
    pub(super) counts: Counts,
    inner: Mutex<Inner>,
    /// The revision up to which changes were pushed to all clients.
    settled: AtomicU64,
    /// The greatest number of the writes of each client. A write that comes again is not reported as lost again.
    newest: Mutex<LruCache<WriterId, u64>>,
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
            field,
            epoch: uuid::Uuid::new_v4().simple().to_string(),
            access,
            origins,
            admission: Admission::new(limits.max_connections_total, limits.max_connections_per_source),
            limits,
            counts: Counts::default(),
            inner: Mutex::new(Inner { history, clients: BTreeMap::new(), next: 0 }),
            settled: AtomicU64::new(0),
            newest: Mutex::new(LruCache::new(WRITERS)),
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
                        if let Some(change) = Change::of(&update) {
                            self.push(&change);
                        }
                    }
                    None => return,
                },
                Some(values) = superseded.next() => {
                    let message = v1::superseded(&values);
                    self.tell(values.lost_stamp.writer, &message);
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
    fn tell(&self, writer: WriterId, message: &str) {
        let inner = self.inner.lock();
        for client in inner.clients.values().filter(|client| client.writer == Some(writer)) {
            Counts::one(&self.counts.superseded);
            if !client.outbox.reply(message.to_owned()) {
                self.counts.give_up(Dropped::Stalled);
                client.outbox.close(Close::STALLED);
            }
        }
    }

    pub(super) fn register(self: &Arc<Self>, outbox: &Arc<Outbox>, writer: Option<WriterId>) -> Registered {
        Counts::one(&self.counts.admitted);
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.clients.insert(number, Client { outbox: Arc::clone(outbox), writer });
        Registered { hub: Arc::clone(self), number }
    }

    /// Starts the subscription of a client, which has everything up to a revision if it is known.
    pub(super) fn subscribe(&self, outbox: &Outbox, subscription: Subscription, answers: bool) {
        let Subscription { names, cursor, presence } = subscription;
        let inner = self.inner.lock();
        let known = cursor.filter(|(epoch, _)| *epoch == self.epoch).map(|(_, revision)| revision);
        let missed = known.and_then(|revision| inner.history.since(revision));
        let resumed = outbox.subscribe(names, presence, missed);
        if answers {
            let revision = if resumed { known.unwrap_or_default() } else { inner.history.revision() };
            // Before the changes, because replies go first. A full outbox is closed by its reader.
            let _ = outbox.reply(v1::subscribed(resumed, &self.epoch, revision));
        }
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
    pub(super) fn write(&self, write: &Write) -> Outcome {
        let outcome = match &write.about {
            Some(about) => self.write_as(about, &write.operation),
            None => self.write_now(&write.operation),
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
    fn write_now(&self, operation: &Operation) -> Result<Outcome, FieldError> {
        match operation {
            Operation::Set { key, value } => self.field.set_json(key, value.clone())?,
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

    fn write_as(&self, about: &About, operation: &Operation) -> Result<Outcome, FieldError> {
        match operation {
            Operation::Set { key, value } => self.register_write(about, key, Some(value.clone())),
            Operation::Delete { key } => self.register_write(about, key, None),
            Operation::Count { key, up, down } => {
                // An old count adds nothing to a newer one, so it does not matter which of them stands.
                let _ = self.field.submit(FieldChange::counted(key, *up, *down, about.stamp))?;
                Ok(Outcome::Applied { version: about.stamp })
            }
            Operation::Insert { key, member } => {
                self.field.submit_member(key, member.clone(), about.stamp)?;
                Ok(Outcome::Applied { version: about.stamp })
            }
            Operation::Discard { key, member } => {
                self.field.discard_before(key, member, about.stamp)?;
                Ok(Outcome::Applied { version: about.stamp })
            }
        }
    }

    fn register_write(
        &self,
        about: &About,
        key: &str,
        value: Option<bytes::Bytes>,
    ) -> Result<Outcome, FieldError> {
        let current = self.field.register(key).map(|entry| entry.stamp);
        let (stamp, replaces) = placed(about, current, wall());
        let entry = Entry { stamp, replaces, value };
        let applied = self.field.submit(FieldChange { key: Key::Register(key.into()), entry })?;
        let is_repeated = {
            let mut newest = self.newest.lock();
            let newest = newest.get_or_insert_mut(stamp.writer, || 0);
            let is_repeated = about.op <= *newest;
            *newest = about.op.max(*newest);
            is_repeated
        };
        let applied_here = Outcome::Applied { version: stamp };
        if matches!(applied, Applied::Changed { .. }) || is_repeated {
            return Ok(applied_here);
        }
        Ok(match self.field.register(key) {
            // It came by another gateway before.
            Some(entry) if entry.stamp == stamp => applied_here,
            Some(Entry { stamp: winner, value, .. }) => {
                Outcome::Lost { version: stamp, value, winner: Some(winner) }
            }
            None => Outcome::Lost { version: stamp, value: None, winner: None },
        })
    }

    pub(super) fn line(&self) -> FieldLine {
        let inner = self.inner.lock();
        FieldLine {
            entries: self.field.status().entries,
            replicas: self.field.peers().len() + 1,
            clients: inner.clients.len(),
            queued_changes: inner.clients.values().map(|client| client.outbox.queued()).sum(),
            ..self.counts.read(&self.name)
        }
    }
}

/// The stamp of a write, and what it replaces.
///
/// A write that follows a version is later than it, also if the clock of the writer of that version is fast: else it could
/// never be replaced. The version must be one that can exist: it is here, or its time has come. So no writer gets a stamp
/// from the future by naming one.
fn placed(about: &About, current: Option<Stamp>, now: u64) -> (Stamp, Option<Stamp>) {
    let About { stamp, replaces, .. } = *about;
    match replaces {
        Replaces::Unsaid => (stamp, current.filter(|&current| current < stamp)),
        Replaces::Nothing => (stamp, None),
        Replaces::Version(seen) => {
            let is_possible = seen.micros <= now || current.is_some_and(|current| seen <= current);
            if seen < stamp || !is_possible {
                return (stamp, Some(seen));
            }
            let logical = seen.logical.saturating_add(1);
            (Stamp { micros: seen.micros, logical, writer: stamp.writer }, Some(seen))
        }
    }
}

/// The wall clock in microseconds since 1970. A clock before 1970 counts as 0.
pub(super) fn wall() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(micros: u64, logical: u32, writer: u64) -> Stamp {
        Stamp { micros, logical, writer: WriterId(writer) }
    }

    fn about(stamp: Stamp, replaces: Replaces) -> About {
        About { op: 1, stamp, replaces, durable: false }
    }

    #[test]
    fn a_write_is_later_than_the_version_that_it_replaces() {
        let own = stamp(100, 1, 7);
        let fast = stamp(500, 3, 9);
        let (placed_at, replaces) = placed(&about(own, Replaces::Version(fast)), Some(fast), 110);
        assert_eq!((placed_at, replaces), (stamp(500, 4, 7), Some(fast)));
        let slow = stamp(50, 0, 9);
        assert_eq!(placed(&about(own, Replaces::Version(slow)), Some(slow), 110), (own, Some(slow)));
    }

    #[test]
    fn a_version_that_cannot_exist_moves_no_write_into_the_future() {
        let own = stamp(100, 1, 7);
        let invented = stamp(5_000, 0, 9);
        assert_eq!(placed(&about(own, Replaces::Version(invented)), Some(stamp(90, 0, 9)), 110).0, own);
    }

    #[test]
    fn a_repeated_write_has_the_same_stamp() {
        let own = stamp(100, 1, 7);
        let unsaid = about(own, Replaces::Unsaid);
        assert_eq!(placed(&unsaid, Some(stamp(90, 0, 9)), 110), (own, Some(stamp(90, 0, 9))));
        assert_eq!(placed(&unsaid, Some(own), 200), (own, None));
        assert_eq!(placed(&unsaid, Some(stamp(150, 0, 9)), 200), (own, None));
    }
}
