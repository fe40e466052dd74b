//! Which waves for later there are, without their contents: some 70 bytes of memory for each.

use std::collections::BTreeMap;

use super::row::{CANCELLED, FIRED, Row, TIMER, TimerId};
use crate::schedule::Rule;
use crate::store::Record;

/// A schedule that is kept under a key.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    /// The next time, in microseconds since 1970.
    pub(crate) due: u64,
    id: u128,
    pub(crate) rule: Rule,
    pub(crate) channel: String,
}

/// The place of a wave in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimerPlace {
    pub(super) position: u64,
    /// In its segment, which has less than 4 GiB.
    pub(super) offset: u32,
    pub(super) bytes: u32,
}

#[derive(Debug, Default)]
pub(super) struct TimerIndex {
    due: BTreeMap<TimerId, TimerPlace>,
    keyed: BTreeMap<String, Keyed>,
    /// The sizes of all that is kept.
    bytes: u64,
}

impl TimerIndex {
    /// Notes a record. Returns whether it ended or replaced a schedule; `None` if this version cannot read it.
    pub(super) fn note(&mut self, record: &Record, offset: u64) -> Option<bool> {
        let name = || String::from_utf8_lossy(&record.name).into_owned();
        match record.kind {
            TIMER => {
                let Row { due, schedule, .. } = postcard::from_bytes(&record.body).ok()?;
                let before = schedule.and_then(|(key, rule)| {
                    let keyed = Keyed { due, id: record.id, rule, channel: name() };
                    self.keyed.insert(key.to_owned(), keyed)
                });
                if let Some(before) = &before {
                    self.remove(TimerId::new(before.due, before.id));
                }
                let bytes = u32::try_from(record.size()).ok()?;
                let kept =
                    TimerPlace { position: record.position, offset: u32::try_from(offset).ok()?, bytes };
                let replaced = self.due.insert(TimerId::new(due, record.id), kept);
                self.bytes += u64::from(bytes);
                self.bytes -= replaced.map_or(0, |kept| u64::from(kept.bytes));
                Some(before.is_some())
            }
            FIRED => {
                let due = postcard::from_bytes(&record.body).ok()?;
                self.remove(TimerId::new(due, record.id));
                let key = name();
                let ended = self.keyed.get(&key).filter(|keyed| (keyed.due, keyed.id) == (due, record.id));
                let has_ended = ended.is_some();
                if has_ended {
                    self.keyed.remove(&key);
                }
                Some(has_ended)
            }
            CANCELLED => {
                let before = self.keyed.remove(&name());
                if let Some(before) = &before {
                    self.remove(TimerId::new(before.due, before.id));
                }
                Some(before.is_some())
            }
            _ => None,
        }
    }

    /// Forgets a wave.
    pub(super) fn remove(&mut self, id: TimerId) {
        self.bytes -= self.due.remove(&id).map_or(0, |kept| u64::from(kept.bytes));
    }

    /// Whether a record is the one that is kept of a wave.
    pub(super) fn keeps(&self, record: &Record) -> bool {
        let row = Some(&record.body).filter(|_| record.kind == TIMER);
        let row = row.and_then(|body| postcard::from_bytes::<Row<'_>>(body).ok());
        let kept = row.and_then(|row| self.due.get(&TimerId::new(row.due, record.id)));
        kept.is_some_and(|kept| kept.position == record.position)
    }

    /// The first waves that are due now, in the order of the file.
    pub(super) fn due(&self, now: u64, most: usize, most_bytes: u64) -> Vec<(TimerId, TimerPlace)> {
        let mut bytes = 0;
        let due = self.due.range(..=TimerId::last_of(now)).take(most);
        let due = due.take_while(|(_, kept)| {
            let fits = bytes < most_bytes;
            bytes += u64::from(kept.bytes);
            fits
        });
        let mut due: Vec<_> = due.map(|(id, kept)| (*id, *kept)).collect();
        due.sort_unstable_by_key(|(_, kept)| kept.position);
        due
    }

    /// The next time.
    pub(super) fn next(&self) -> Option<u64> {
        self.due.first_key_value().map(|(id, _)| id.due)
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn keyed(&self) -> &BTreeMap<String, Keyed> {
        &self.keyed
    }
}
