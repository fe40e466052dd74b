//! The journal of a consumer: what it has acknowledged, in a store of its own.
//!
//! A record for the waves that were acknowledged together, and from time to time one with everything, so that the records
//! before it can be dropped.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use aether_core::{Durability, Pattern};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::consumer::attempts::ENDED;
use crate::consumer::claim::Claim;
use crate::consumer::error::ConsumeError;
use crate::consumer::options::{ConsumerOptions, Start};
use crate::consumer::positions::Positions;
use crate::consumer::window::{Fate, Recovered};
use crate::dead::Attempt;
use crate::sealing::Sealing;
use crate::store::{
    AppendError, Appended, Cursor, Damage, Entry, Item, OpenError, Store, StoreOptions, View,
};

const SNAPSHOT: u8 = 32;
const ACKNOWLEDGED: u8 = 33;
const DEAD: u8 = 34;
const EXPIRED: u8 = 35;
const FAILED: u8 = 36;

/// A snapshot is written after this many waves have ended.
const SNAPSHOT_EVERY: u64 = 16_384;
/// How often a journal is looked at again whose consumer dropped a segment meanwhile.
const LOOKS: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    pattern: String,
    floor: u64,
    /// Settled positions behind the floor: start and length.
    settled: Vec<(u64, u64)>,
    counts: [u64; 3],
}

#[derive(Debug)]
pub(super) struct Journal {
    store: Store,
    sealing: Arc<Sealing>,
    pattern: Pattern,
    /// The level that an acknowledgement reaches before it counts.
    level: Durability,
    since_snapshot: AtomicU64,
    /// The snapshot before the last one: what is before it is not needed.
    before_last: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

/// What is in a journal.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) pattern: Option<String>,
    pub(super) recovered: Recovered,
    /// When the last acknowledgement was written, in microseconds since 1970; 0 if there is none.
    pub(super) acknowledged_micros: u64,
    /// The number of damaged places.
    pub(super) damaged: usize,
    /// The number of whole records.
    records: u64,
    /// The position of the last snapshot.
    snapshot: u64,
}

impl Journal {
    /// Opens a journal, or begins one. Blocks.
    pub(super) fn open(
        folder: &Path,
        pattern: Pattern,
        consumer: &ConsumerOptions,
        last_position: u64,
        sealing: Arc<Sealing>,
    ) -> Result<(Self, Read), ConsumeError> {
        let options = StoreOptions::default().remembered_ids(0);
        let options = options.segment_bytes(1 << 20).unwrap_or(options);
        let store = Store::open(folder, options, 0)?;
        let mut read = read(store.cursor(0), &sealing, |damage| {
            tracing::error!(%damage, "the journal of a consumer is damaged: what it has noted there is delivered again");
        })?;
        let (before_last, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(read.snapshot)));
        let has_begun = read.records > 0 || read.damaged > 0;
        let is_lost = read.pattern.is_none();
        if is_lost && has_begun {
            // It was a consumer before, wherever it began: what it has not acknowledged must not be passed over.
            let folder = folder.display();
            tracing::error!(%folder, "the beginning of a consumer is lost: it is delivered all that the log holds and it has not noted");
        } else if is_lost {
            read.recovered.floor = match consumer.start {
                Start::First => 0,
                Start::New => last_position,
                Start::Position(position) => position.saturating_sub(1),
            };
        }
        let level = consumer.acknowledgements;
        let since_snapshot = AtomicU64::new(0);
        let journal = Self { store, sealing, pattern, level, since_snapshot, before_last, last };
        if is_lost {
            journal.begin(read.recovered.floor)?;
        }
        Ok((journal, read))
    }

    /// Notes where the consumer begins before it has begun, synced: after a power cut, a consumer of what is new goes
    /// on there. Twice, so that a changed byte hits one of them. Blocks.
    fn begin(&self, floor: u64) -> Result<(), AppendError> {
        let pattern = self.pattern.as_str().to_owned();
        let snapshot = Snapshot { pattern, floor, settled: Vec::new(), counts: [0; 3] };
        let (done, written) = mpsc::channel();
        let notes = (0..2).map(|_| {
            let done = done.clone();
            let answering = move |result: Result<Appended, _>| drop(done.send(result));
            (entry(SNAPSHOT, &snapshot), Box::new(answering) as _)
        });
        self.store.append_all(notes.collect(), Durability::Synced)?;
        drop(done);
        self.store.hurry();
        for result in written {
            self.last.store(result?.position, Ordering::Release);
        }
        Ok(())
    }

    /// The greatest position that a journal knows.
    pub(super) fn last_noted(folder: &Path) -> Result<u64, OpenError> {
        let Recovered { floor, settled, failures, .. } = Self::look(folder)?.recovered;
        let known = settled.last().into_iter().chain(failures.keys().copied());
        Ok(known.fold(floor, u64::max))
    }

    /// What is in a journal that another process may be writing. Changes nothing.
    pub(super) fn look(folder: &Path) -> Result<Read, OpenError> {
        for _ in 1..LOOKS {
            match Self::look_once(folder) {
                // Its writer drops segments that are not needed any more.
                Err(OpenError::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound && folder.is_dir() => {}
                looked => return looked,
            }
        }
        Self::look_once(folder)
    }

    fn look_once(folder: &Path) -> Result<Read, OpenError> {
        match View::open(folder) {
            // The process ended while it made the journal.
            Err(OpenError::Nothing { .. }) => Ok(Read::default()),
            // The texts of failures are left out.
            view => read(view?.cursor(0), &Sealing::default(), |_| {}),
        }
    }

    /// Notes how these waves of a window ended, with one record, settles them once that is written, and waits for it.
    /// Cancelled after the first poll, they are noted all the same.
    pub(super) async fn settled(&self, claims: Vec<Claim>, fate: Fate) -> Result<(), AppendError> {
        let Some(window) = claims.first().map(|claim| Arc::clone(claim.window())) else { return Ok(()) };
        let kind = match fate {
            Fate::Acknowledged => ACKNOWLEDGED,
            Fate::Dead => DEAD,
            Fate::Expired => EXPIRED,
        };
        let entry = Entry { body: joined(claims.iter().map(Claim::position)), ..entry(kind, &()) };
        let (noted, (answer, done)) = (claims.len() as u64, oneshot::channel());
        let written = Box::new(move |result: Result<Appended, AppendError>| {
            // Without a record of them the waves are delivered again.
            let _ = answer.send(result.map(|_| Claim::settle(claims, fate)));
        });
        self.store.append(entry, self.level, written)?;
        if self.since_snapshot.fetch_add(noted, Ordering::Relaxed) + noted >= SNAPSHOT_EVERY {
            self.since_snapshot.store(0, Ordering::Relaxed);
            let (floor, settled, counts) = window.snapshot();
            self.write_snapshot(floor, settled, counts);
        }
        done.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Notes a failed attempt. Nobody waits for it: if it is lost, the wave has one attempt more.
    pub(super) fn note_failure(&self, position: u64, attempt: &Attempt) {
        let noted = self.failure(position, attempt);
        let noted = noted.and_then(|entry| self.store.append(entry, Durability::Stored, Box::new(drop)));
        if let Err(error) = noted {
            tracing::warn!(position, %error, "a failed attempt was not noted");
        }
    }

    /// Notes failed attempts, and waits until that is written. Blocks.
    pub(super) fn note_failures(&self, failures: &[(u64, Attempt)]) -> Result<(), AppendError> {
        let (done, written) = mpsc::channel();
        for (position, attempt) in failures {
            let done = done.clone();
            let answering = Box::new(move |result: Result<Appended, AppendError>| drop(done.send(result)));
            self.store.append(self.failure(*position, attempt)?, Durability::Stored, answering)?;
        }
        drop(done);
        self.store.hurry();
        written.iter().try_for_each(|result| result.map(drop))
    }

    /// The record of a failed attempt. In a sealed log the text is sealed behind it. The text of an attempt that ended with
    /// its process is not: it tells nothing else, and the window looks for it.
    fn failure(&self, position: u64, attempt: &Attempt) -> Result<Entry, AppendError> {
        if !self.sealing.has_keys() || attempt.error == ENDED {
            return Ok(entry(FAILED, &(position, attempt)));
        }
        let error = Bytes::copy_from_slice(attempt.error.as_bytes());
        let error = self.sealing.seal(&address(position), error)?;
        let attempt = Attempt { micros: attempt.micros, error: String::new() };
        let noted = entry(FAILED, &(position, attempt));
        Ok(Entry { body: [noted.body, error].concat().into(), ..noted })
    }

    /// Writes the state.
    fn write_snapshot(&self, floor: u64, settled: Vec<(u64, u64)>, counts: [u64; 3]) {
        let pattern = self.pattern.as_str().to_owned();
        let snapshot = Snapshot { pattern, floor, settled, counts };
        let (before_last, last) = (Arc::clone(&self.before_last), Arc::clone(&self.last));
        // Records that were written before the snapshot and settled after it was taken are behind the one before.
        let done = Box::new(move |result: Result<Appended, AppendError>| match result {
            Ok(noted) => before_last.store(last.swap(noted.position, Ordering::AcqRel), Ordering::Release),
            Err(error) => tracing::warn!(%error, "the state of a consumer was not written"),
        });
        if let Err(error) = self.store.append(entry(SNAPSHOT, &snapshot), Durability::Stored, done) {
            tracing::warn!(%error, "the state of a consumer was not written");
        }
        self.store.drop_before(self.before_last.load(Ordering::Acquire));
    }
}

fn entry(kind: u8, content: &impl Serialize) -> Entry {
    // Writing to memory does not fail.
    let body: Bytes = postcard::to_allocvec(content).unwrap_or_default().into();
    Entry { kind, level: 0, id: 0, name: String::new(), body }
}

/// The positions of one record. Earlier versions wrote one, and read the first one.
fn joined(positions: impl Iterator<Item = u64>) -> Bytes {
    let body = positions.fold(Vec::new(), |body, position| {
        // Writing to memory does not fail.
        postcard::to_extend(&position, body).unwrap_or_default()
    });
    body.into()
}

/// Reads what [`joined`] wrote.
fn positions(mut body: &[u8]) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let (position, rest) = postcard::take_from_bytes(body).ok()?;
        body = rest;
        Some(position)
    })
}

/// The place for which the text of a failure is sealed.
fn address(position: u64) -> String {
    format!("failure {position}")
}

/// A failed attempt. A text that cannot be opened is replaced by the reason.
fn read_failure(body: &Bytes, sealing: &Sealing) -> Option<(u64, Attempt)> {
    let ((position, mut attempt), rest) = postcard::take_from_bytes::<(u64, Attempt)>(body).ok()?;
    if attempt.error != ENDED && (sealing.has_keys() || !rest.is_empty()) {
        let opened = sealing.open(&address(position), &body.slice_ref(rest));
        attempt.error = match opened {
            Ok(opened) => String::from_utf8_lossy(&opened.frame).into_owned(),
            Err(error) => error.to_string(),
        };
    }
    Some((position, attempt))
}

/// Reads a journal. A damaged record costs redeliveries: of one wave, or of those that were acknowledged together.
fn read(
    mut cursor: Cursor,
    sealing: &Sealing,
    mut on_damage: impl FnMut(&Damage),
) -> Result<Read, OpenError> {
    let (mut last, mut snapshot, mut settled, mut failures) = (None, 0, Vec::new(), Vec::new());
    let (mut acknowledged_micros, mut damaged, mut records) = (0, 0, 0);
    while let Some(item) = cursor.next_item()? {
        let record = match item {
            Item::Record(record) => record,
            Item::Damaged(damage) => {
                on_damage(&damage);
                damaged += 1;
                continue;
            }
        };
        records += 1;
        let mut settle = |fate| settled.extend(positions(&record.body).map(|position| (position, fate)));
        match record.kind {
            SNAPSHOT => {
                if let Ok(read) = postcard::from_bytes::<Snapshot>(&record.body) {
                    (last, snapshot) = (Some(read), record.position);
                }
            }
            ACKNOWLEDGED => {
                acknowledged_micros = record.micros;
                settle(Fate::Acknowledged);
            }
            DEAD => settle(Fate::Dead),
            EXPIRED => settle(Fate::Expired),
            FAILED => failures.extend(read_failure(&record.body, sealing)),
            _ => {}
        }
    }
    let mut recovered = Recovered::default();
    let pattern = last.map(|Snapshot { pattern, floor, settled, counts }| {
        let settled = Positions::of_ranges(settled);
        let [acknowledged, dead, expired] = counts;
        recovered = Recovered { floor, settled, acknowledged, dead, expired, ..Recovered::default() };
        pattern
    });
    // Records before the snapshot may have been settled after it was taken. Those that it knows count once.
    settled.into_iter().for_each(|(position, fate)| recovered.settle(position, fate));
    for (position, attempt) in failures {
        if position > recovered.floor && !recovered.settled.contains(position) {
            recovered.fail(position, attempt);
        }
    }
    Ok(Read { pattern, recovered, acknowledged_micros, damaged, records, snapshot })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_positions_of_a_record_are_read_back_and_an_earlier_version_reads_the_first() {
        for given in [vec![7], vec![300, 7, u64::MAX, 301]] {
            let body = joined(given.iter().copied());
            assert_eq!(positions(&body).collect::<Vec<_>>(), given);
            assert_eq!(postcard::from_bytes(&body), Ok(given[0]));
        }
    }
}
