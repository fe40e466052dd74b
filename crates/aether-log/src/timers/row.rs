//! The records of the file of timers.

use aether_link::wire::is_sealed;
use serde::{Deserialize, Serialize};

use super::change::{Change, Timer};
use crate::schedule::Rule;
use crate::store::{Entry, Record};

/// The kinds of records: a wave for later, which replaces the one of the same time and identity, and the schedule of the
/// same key; a wave that is in the log; and the key of a schedule that was cancelled.
pub(super) const TIMER: u8 = 48;
pub(super) const FIRED: u8 = 49;
pub(super) const CANCELLED: u8 = 50;

/// The time in microseconds since 1970, and the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId {
    pub(super) due: u64,
    /// As bytes, which take less memory for their alignment.
    id: [u8; 16],
}

impl TimerId {
    pub(super) const fn new(due: u64, id: u128) -> Self {
        Self { due, id: id.to_be_bytes() }
    }

    /// Not before any of this time.
    pub(super) const fn last_of(due: u64) -> Self {
        Self::new(due, u128::MAX)
    }
}

/// The content of a wave for later.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row<'a> {
    pub(super) due: u64,
    /// Its key, and when it is due again.
    #[serde(borrow)]
    pub(super) schedule: Option<(&'a str, Rule)>,
    pub(super) body: &'a [u8],
}

impl Row<'_> {
    /// The record of a wave.
    pub(super) fn entry(&self, wave: &Entry) -> Entry {
        Entry { kind: TIMER, body: written(self), ..wave.clone() }
    }
}

/// Whether a wave for later is sealed; `None` if the record is none.
pub(crate) fn is_sealed_row(record: &Record) -> Option<bool> {
    let row = (record.kind == TIMER).then(|| postcard::from_bytes::<Row<'_>>(&record.body).ok()).flatten();
    row.map(|row| is_sealed(row.body))
}

/// The record of a wave that is in the log and does not come again. The name is the key of its schedule.
pub(super) fn fired(due: u64, id: u128, key: Option<&str>) -> Entry {
    let name = key.unwrap_or_default().to_owned();
    Entry { kind: FIRED, level: 0, id, name, body: written(&due) }
}

impl Change {
    pub(super) fn entry(&self) -> Entry {
        match self {
            Self::Keep(Timer { due, entry }) => {
                Row { due: *due, schedule: None, body: &entry.body }.entry(entry)
            }
            Self::Put { key, schedule, timer: Timer { due, entry } } => {
                Row { due: *due, schedule: Some((key, schedule.0.clone())), body: &entry.body }.entry(entry)
            }
            Self::Cancel { key } => {
                let body = bytes::Bytes::new();
                Entry { kind: CANCELLED, level: 0, id: 0, name: key.clone(), body }
            }
        }
    }
}

fn written(content: &impl Serialize) -> bytes::Bytes {
    // Writing to memory does not fail.
    postcard::to_allocvec(content).unwrap_or_default().into()
}
