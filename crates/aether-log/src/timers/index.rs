//! Which waves for later there are, without their contents: some 70 bytes of memory for each.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

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
    pub(super) position: NonZeroU64,
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

/// The waves of a file that is read from its beginning. They are sorted once, at the end: to look for the place of each
/// takes most of the time of opening a million.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// Where each is kept from then on, or that it is not any more.
    noted: Vec<(TimerId, Option<TimerPlace>)>,
    keyed: BTreeMap<String, Keyed>,
}

impl Loading {
    /// As [`TimerIndex::note`].
    pub(super) fn note(&mut self, record: &Record, offset: u64) -> Option<bool> {
        let Self { noted, keyed } = self;
        read(keyed, record, offset, |id, kept| noted.push((id, kept)))
    }

    pub(super) fn index(self) -> TimerIndex {
        let Self { mut noted, keyed } = self;
        // Stable, so the last one of a wave counts.
        noted.sort_by_key(|(id, _)| *id);
        noted.dedup_by(|later, last| {
            let is_same = later.0 == last.0;
            if is_same {
                *last = *later;
            }
            is_same
        });
        let bytes = noted.iter().filter_map(|(_, kept)| *kept).map(|kept| u64::from(kept.bytes)).sum();
        let due = noted.into_iter().filter_map(|(id, kept)| Some((id, kept?))).collect();
        TimerIndex { due, keyed, bytes }
    }
}

/// Reads a record, and calls `note` with each wave that it is about, and where that is kept. Returns whether it ended or
/// replaced a schedule; `None` if this version cannot read it.
fn read(
    keyed: &mut BTreeMap<String, Keyed>,
    record: &Record,
    offset: u64,
    mut note: impl FnMut(TimerId, Option<TimerPlace>),
) -> Option<bool> {
    let name = || String::from_utf8_lossy(&record.name).into_owned();
    match record.kind {
        TIMER => {
            let Row { due, schedule, .. } = postcard::from_bytes(&record.body).ok()?;
            let before = schedule.and_then(|(key, rule)| {
                keyed.insert(key.to_owned(), Keyed { due, id: record.id, rule, channel: name() })
            });
            if let Some(before) = &before {
                note(TimerId::new(before.due, before.id), None);
            }
            let (position, offset) = (NonZeroU64::new(record.position)?, u32::try_from(offset).ok()?);
            let bytes = u32::try_from(record.size()).ok()?;
            note(TimerId::new(due, record.id), Some(TimerPlace { position, offset, bytes }));
            Some(before.is_some())
        }
        FIRED => {
            let due = postcard::from_bytes(&record.body).ok()?;
            note(TimerId::new(due, record.id), None);
            let key = name();
            let ended = keyed.get(&key).filter(|keyed| (keyed.due, keyed.id) == (due, record.id));
            let has_ended = ended.is_some();
            if has_ended {
                keyed.remove(&key);
            }
            Some(has_ended)
        }
        CANCELLED => {
            let before = keyed.remove(&name());
            if let Some(before) = &before {
                note(TimerId::new(before.due, before.id), None);
            }
            Some(before.is_some())
        }
        _ => None,
    }
}

impl TimerIndex {
    /// Notes a record. Returns whether it ended or replaced a schedule; `None` if this version cannot read it.
    pub(super) fn note(&mut self, record: &Record, offset: u64) -> Option<bool> {
        let Self { due, keyed, bytes } = self;
        read(keyed, record, offset, |id, kept| {
            let before = match kept {
                Some(kept) => {
                    *bytes += u64::from(kept.bytes);
                    due.insert(id, kept)
                }
                None => due.remove(&id),
            };
            *bytes -= before.map_or(0, |before| u64::from(before.bytes));
        })
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
        kept.is_some_and(|kept| kept.position.get() == record.position)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::change::{Change, Timer};
    use super::super::row::fired;
    use super::*;
    use crate::schedule::Schedule;
    use crate::store::Entry;

    fn record(position: u64, entry: &Entry) -> Record {
        let Entry { kind, level, id, name, body } = entry.clone();
        Record { position, micros: 0, kind, level, id, name: name.into(), body }
    }

    #[test]
    fn the_index_of_a_file_that_is_read_at_once_is_the_one_of_its_records_one_by_one() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut index, mut loading) = (TimerIndex::default(), Loading::default());
        for position in 1..=5000 {
            let (due, id, key) = (random.u64(1..40), random.u128(1..30), random.u8(..9).to_string());
            let name = "orders.due".to_owned();
            let body = vec![7; random.usize(..20)].into();
            let timer = Timer { due, entry: Entry { kind: 1, level: 0, id, name, body } };
            let schedule = Schedule::every(Duration::from_secs(1));
            let entry = match random.u8(..6) {
                0 | 1 => Change::Keep(timer).entry(),
                2 => Change::Put { key, schedule, timer }.entry(),
                3 => Change::Cancel { key }.entry(),
                4 => fired(due, id, Some(&key)),
                _ => fired(due, id, None),
            };
            let (record, offset) = (record(position, &entry), position * 100);
            assert_eq!(index.note(&record, offset), loading.note(&record, offset));
        }
        let loaded = loading.index();
        let kept = |index: &TimerIndex| {
            let due = index.due(u64::MAX, usize::MAX, u64::MAX);
            let due: Vec<_> = due.iter().map(|(id, kept)| (*id, kept.position, kept.offset)).collect();
            let keyed: Vec<_> = index.keyed().iter().map(|(key, keyed)| (key.clone(), keyed.due)).collect();
            (due, keyed, index.len(), index.bytes())
        };
        assert!(index.len() > 100);
        assert_eq!(kept(&loaded), kept(&index));
    }
}
