//! The unsettled waves of a consumer: a window of the log, served by strength.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::consumer::attempts::{Attempts, ENDED, Slot};
use crate::consumer::error::WeightError;
use crate::consumer::ledger::ConsumerLedger;
use crate::consumer::options::ConsumerOptions;
use crate::consumer::pace::Pace;
use crate::consumer::positions::Positions;
use crate::consumer::queue::{JobState, Tally};
use crate::consumer::ready::{Order, Ready};
use crate::dead::{Attempt, MAX_FAILED};
use crate::schedule::time;
use crate::store::{Place, Record};

/// The contents of waiting waves that are kept in memory, in bytes: of a full window of small ones. Others are read again.
const MAX_HELD: usize = 32 << 20;

/// The ranges of settled waves behind one that is not. Where waves of other channels lie between them, a delivery that
/// is held makes a range of each; beyond this number nothing more is looked at until it ends. 12 MB.
const MAX_RANGES: usize = 1 << 18;

/// How a wave ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Acknowledged,
    Dead,
    Expired,
}

/// A wave that is not settled.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) order: Order,
    pub(super) place: Place,
    pub(super) record: Option<Record>,
}

/// The failures of a wave so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    pub(super) count: u32,
    pub(super) listed: Vec<Attempt>,
    /// The handler knows that no other attempt will succeed. It is asked once more after a restart.
    pub(super) is_final: bool,
}

impl Failures {
    pub(super) fn push(&mut self, attempt: Attempt) {
        self.count = self.count.saturating_add(1);
        self.list(attempt);
    }

    /// No other attempt is made, for this reason.
    pub(super) fn end(&mut self, reason: Attempt) {
        self.is_final = true;
        self.list(reason);
    }

    fn list(&mut self, attempt: Attempt) {
        if self.listed.len() == MAX_FAILED {
            // The first ones show how it began, the last ones how it is.
            self.listed.remove(MAX_FAILED / 2);
        }
        self.listed.push(attempt);
    }
}

/// The contents of the journal.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) floor: u64,
    pub(super) settled: Positions,
    pub(super) failures: BTreeMap<u64, Failures>,
    pub(super) acknowledged: u64,
    pub(super) dead: u64,
    pub(super) expired: u64,
}

impl Recovered {
    pub(super) fn settle(&mut self, position: u64, fate: Fate) {
        if position > self.floor && self.settled.insert(position) {
            *match fate {
                Fate::Acknowledged => &mut self.acknowledged,
                Fate::Dead => &mut self.dead,
                Fate::Expired => &mut self.expired,
            } += 1;
        }
    }

    pub(super) fn fail(&mut self, position: u64, attempt: Attempt) {
        self.failures.entry(position).or_default().push(attempt);
    }

    /// Counts the attempts that have no end. Returns their waves with their failures.
    pub(super) fn end_attempts(
        &mut self,
        begun: &[(u64, u32)],
        mut failure: impl FnMut() -> Attempt,
    ) -> Vec<(u64, Attempt)> {
        let mut ended = Vec::new();
        for (position, attempt) in begun {
            let failed = self.failures.get(position).map_or(0, |failures| failures.count);
            if *position > self.floor && !self.settled.contains(*position) && failed < *attempt {
                let failure = failure();
                self.fail(*position, failure.clone());
                ended.push((*position, failure));
            }
        }
        ended
    }
}

/// A wave that was taken.
#[derive(Debug, Clone, Copy)]
struct Flight {
    since: Instant,
    place: Place,
    slot: Option<Slot>,
}

/// A wave that was taken, its failures so far, and the slot for its next attempt.
pub(super) type Taken = (Pending, Failures, Option<Slot>);

/// A wave in flight or in a pause, to be read.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) position: u64,
    pub(super) place: Place,
    pub(super) attempt: u32,
    pub(super) state: JobState,
    pub(super) error: Option<String>,
}

#[derive(Debug)]
struct State {
    ready: Ready<Pending>,
    /// By the instant of their next attempt.
    delayed: BTreeMap<(Instant, u64), Pending>,
    in_flight: BTreeMap<u64, Flight>,
    /// The positions of all of these.
    outstanding: BTreeSet<u64>,
    /// The bytes of the records that are held.
    held: usize,
    /// Everything up to here is settled.
    floor: u64,
    /// Settled positions behind the floor.
    settled: Positions,
    failures: BTreeMap<u64, Failures>,
    /// The slots that no attempt has.
    slots: Vec<Slot>,
    /// Waves that were in flight when a process ended. Each is delivered with nothing else in flight, so that another end is
    /// put down to the right one.
    suspects: BTreeSet<u64>,
    /// The one of them that is in flight.
    alone: Option<u64>,
    /// Nothing is taken.
    is_paused: bool,
    pace: Pace,
    /// The next position to look at.
    scanned: u64,
    stored: u64,
    acknowledged: u64,
    dead: u64,
    expired: u64,
}

/// The window, shared by all consumers of a name.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    options: ConsumerOptions,
    attempts: Attempts,
    /// Somebody may have something to take.
    pub(super) changed: Notify,
}

impl Window {
    pub(super) fn new(recovered: Recovered, options: &ConsumerOptions, attempts: Attempts) -> Self {
        let Recovered { floor, settled, failures, acknowledged, dead, expired } = recovered;
        let stored = acknowledged + dead + expired;
        let scanned = floor + 1;
        let has_ended = |failures: &Failures| failures.listed.iter().any(|attempt| attempt.error == ENDED);
        let suspects = failures.iter().filter(|(_, failures)| has_ended(failures));
        let suspects = suspects.map(|(position, _)| *position).collect();
        let state = State {
            ready: Ready::new(options),
            delayed: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            outstanding: BTreeSet::new(),
            held: 0,
            floor,
            settled,
            failures,
            slots: Slot::all(options.max_in_flight.get()),
            suspects,
            alone: None,
            is_paused: false,
            pace: Pace::new(Instant::now()),
            scanned,
            stored,
            acknowledged,
            dead,
            expired,
        };
        Self { state: Mutex::new(state), options: *options, attempts, changed: Notify::new() }
    }

    pub(super) const fn options(&self) -> &ConsumerOptions {
        &self.options
    }

    pub(super) const fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    pub(super) fn set_weight(&self, tenant: &str, weight: NonZeroU32) -> Result<(), WeightError> {
        self.state.lock().ready.set_weight(tenant, weight)
    }

    /// How many bytes of records may be held besides.
    pub(super) fn room_to_hold(&self) -> usize {
        MAX_HELD.saturating_sub(self.state.lock().held)
    }

    /// The next position to look at, and the room for waves from there on.
    pub(super) fn next_scan(&self) -> (u64, usize) {
        let state = self.state.lock();
        let room = self.options.window.get().saturating_sub(state.outstanding.len());
        // After a start no wave is known to be held: then the ranges are from before the start.
        let is_held = state.settled.len() >= MAX_RANGES && !state.outstanding.is_empty();
        (state.scanned, if is_held { 0 } else { room })
    }

    /// Adds waves of the log that match. Everything before this position was looked at.
    pub(super) fn add(&self, found: Vec<Pending>, scanned: u64) {
        let mut state = self.state.lock();
        found.into_iter().for_each(|pending| state.add(pending));
        state.scanned = state.scanned.max(scanned);
        state.raise_floor();
    }

    /// The next wave to deliver, or when there is one.
    pub(super) fn take(&self, now: Instant) -> Result<Taken, Option<Instant>> {
        let mut state = self.state.lock();
        while let Some(due) = state.delayed.first_entry().filter(|due| due.key().0 <= now) {
            let pending = due.remove();
            state.ready(pending);
        }
        if state.in_flight.len() >= self.options.max_in_flight.get()
            || state.alone.is_some()
            || state.is_paused
        {
            return Err(None);
        }
        let Some(next) = state.ready.next() else {
            let delayed = state.delayed.first_key_value().map(|((due, _), _)| *due);
            return Err(delayed.into_iter().chain(state.ready.due()).min());
        };
        let is_suspect = state.suspects.contains(&next);
        if is_suspect && !state.in_flight.is_empty() {
            return Err(None);
        }
        let Some(pending) = state.ready.take() else { return Err(None) };
        state.alone = is_suspect.then_some(next);
        let slot = state.slots.pop();
        state.in_flight.insert(next, Flight { since: now, place: pending.place, slot });
        state.held -= pending.record.as_ref().map_or(0, Record::size);
        let failures = state.failures.get(&next).cloned().unwrap_or_default();
        Ok((pending, failures, slot))
    }

    /// A wave that was taken is delivered, and counts for a limit.
    pub(super) fn delivered(&self, position: u64) {
        if self.options.limit.is_some() {
            self.state.lock().ready.delivered(position);
        }
    }

    /// The next waves whose contents are not held.
    pub(super) fn missing(&self, most: usize) -> Vec<(u64, Place)> {
        let mut state = self.state.lock();
        let next = state.ready.next_mut(most).filter(|pending| pending.record.is_none());
        next.map(|pending| (pending.order.position, pending.place)).collect()
    }

    /// Holds the contents of waves that are [missing](Self::missing), as far as they still are among the next ones.
    pub(super) fn hold(&self, mut records: HashMap<u64, Record>) {
        let State { ready, held, .. } = &mut *self.state.lock();
        for pending in ready.next_mut(2 * records.len()).filter(|pending| pending.record.is_none()) {
            pending.record = records.remove(&pending.order.position);
            *held += pending.record.as_ref().map_or(0, Record::size);
        }
    }

    /// A delivery that was not begun or not acknowledged: it is ready again.
    pub(super) fn put_back(&self, pending: Pending) {
        let mut state = self.state.lock();
        state.end_flight(pending.order.position);
        state.held += pending.record.as_ref().map_or(0, Record::size);
        state.ready(pending);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A delivery that was not begun, because its key is missing: it is ready again at an instant.
    pub(super) fn hold_back(&self, pending: Pending, until: Instant) {
        let mut state = self.state.lock();
        state.end_flight(pending.order.position);
        state.delayed.insert((until, pending.order.position), Pending { record: None, ..pending });
        drop(state);
        self.changed.notify_waiters();
    }

    /// A delivery that failed: it is ready again at an instant, or at once if this failure is final.
    pub(super) fn delay(&self, pending: Pending, attempt: Attempt, is_final: bool) {
        let mut state = self.state.lock();
        let position = pending.order.position;
        state.end_flight(position);
        let failures = state.failures.entry(position).or_default();
        failures.push(attempt);
        failures.is_final |= is_final;
        let pause = if failures.is_final { Duration::ZERO } else { self.options.pause_after(failures.count) };
        let until = Instant::now() + pause;
        state.delayed.insert((until, position), Pending { record: None, ..pending });
        drop(state);
        self.changed.notify_waiters();
    }

    /// Deliveries that have ended.
    pub(super) fn settle(&self, positions: impl Iterator<Item = u64>, fate: Fate) {
        let mut state = self.state.lock();
        let mut ended = 0;
        for position in positions {
            state.end_flight(position);
            state.ready.ended(position);
            state.outstanding.remove(&position);
            state.failures.remove(&position);
            state.suspects.remove(&position);
            state.settled.insert(position);
            ended += 1;
        }
        *match fate {
            Fate::Acknowledged => &mut state.acknowledged,
            Fate::Dead => &mut state.dead,
            Fate::Expired => &mut state.expired,
        } += ended;
        if fate != Fate::Expired {
            state.pace.note(Instant::now(), ended);
        }
        state.raise_floor();
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn ledger(&self) -> ConsumerLedger {
        let state = self.state.lock();
        ConsumerLedger {
            stored: state.stored,
            acknowledged: state.acknowledged,
            in_flight: state.in_flight.len() as u64,
            waiting: (state.ready.len() + state.delayed.len()) as u64,
            dead: state.dead,
            expired: state.expired,
        }
    }

    /// Takes this wave if it waits or pauses, to end it. It looks at all of them.
    pub(super) fn take_at(&self, position: u64) -> Option<(Pending, Failures)> {
        let mut state = self.state.lock();
        let pending = match state.ready.take_at(position) {
            Some(pending) => {
                state.held -= pending.record.as_ref().map_or(0, Record::size);
                pending
            }
            None => state.take_delayed(position)?,
        };
        state.in_flight.insert(position, Flight { since: Instant::now(), place: pending.place, slot: None });
        let failures = state.failures.get(&position).cloned().unwrap_or_default();
        Some((pending, failures))
    }

    /// Makes this wave due, or all that pause after a failure. Returns how many.
    pub(super) fn retry(&self, position: Option<u64>) -> u64 {
        let mut state = self.state.lock();
        let due: Vec<Pending> = match position {
            Some(position) => state.take_delayed(position).into_iter().collect(),
            None => std::mem::take(&mut state.delayed).into_values().collect(),
        };
        let waves = due.len() as u64;
        due.into_iter().for_each(|pending| state.ready(pending));
        drop(state);
        self.changed.notify_waiters();
        waves
    }

    /// Takes nothing until it goes on.
    pub(super) fn pause(&self, is_paused: bool) {
        self.state.lock().is_paused = is_paused;
        self.changed.notify_waiters();
    }

    pub(super) fn counted(&self) -> Tally {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let State { ready, delayed, in_flight, pace, is_paused, .. } = &mut *state;
        let oldest = ready.iter_mut().map(|pending| pending.order.micros);
        let oldest = oldest.chain(delayed.values().map(|pending| pending.order.micros)).min();
        let due = delayed.first_key_value().map(|((due, _), _)| due.saturating_duration_since(now));
        Tally {
            is_paused: *is_paused,
            ready: ready.len() as u64,
            limited: ready.limited() as u64,
            retrying: delayed.len() as u64,
            in_flight: in_flight.len() as u64,
            oldest_waiting: oldest.map(time),
            next_due: due,
            longest: in_flight.values().map(|flight| now.saturating_duration_since(flight.since)).max(),
            done: pace.done(),
            per_second: pace.per_second(now),
        }
    }

    /// The waves in flight and those that pause, by position, from behind this one on.
    pub(super) fn found(&self, after: u64, most: usize) -> Vec<Listed> {
        let (state, now) = (self.state.lock(), Instant::now());
        let running = state.in_flight.range(after.saturating_add(1)..).map(|(position, flight)| {
            (*position, flight.place, JobState::InFlight(now.saturating_duration_since(flight.since)))
        });
        let retrying = state.delayed.iter().filter(|((_, position), _)| *position > after);
        let retrying = retrying.map(|((due, position), pending)| {
            (*position, pending.place, JobState::Retrying(due.saturating_duration_since(now)))
        });
        let mut all: Vec<_> = running.chain(retrying).collect();
        all.sort_unstable_by_key(|(position, ..)| *position);
        all.truncate(most);
        let found = all.into_iter().map(|(position, place, job)| {
            let failures = state.failures.get(&position);
            let error = failures.and_then(|failures| failures.listed.last()).map(|last| last.error.clone());
            let attempt = failures.map_or(0, |failures| failures.count) + 1;
            Listed { position, place, attempt, state: job, error }
        });
        found.collect()
    }

    /// Everything up to this position is settled.
    pub(super) fn floor(&self) -> u64 {
        self.state.lock().floor
    }

    /// What is needed to go on after a restart: the floor, the ranges of settled positions behind it, and the counts.
    pub(super) fn snapshot(&self) -> (u64, Vec<(u64, u64)>, [u64; 3]) {
        let state = self.state.lock();
        (state.floor, state.settled.ranges(), [state.acknowledged, state.dead, state.expired])
    }
}

impl State {
    fn add(&mut self, pending: Pending) {
        let position = pending.order.position;
        if position < self.scanned || self.settled.contains(position) {
            return;
        }
        self.stored += 1;
        self.outstanding.insert(position);
        self.held += pending.record.as_ref().map_or(0, Record::size);
        self.ready(pending);
    }

    fn ready(&mut self, pending: Pending) {
        let order = pending.order.clone();
        self.ready.insert(&order, pending);
    }

    fn end_flight(&mut self, position: u64) {
        let slot = self.in_flight.remove(&position).and_then(|flight| flight.slot);
        self.slots.extend(slot);
        self.ready.free(position);
        self.alone.take_if(|alone| *alone == position);
    }

    fn take_delayed(&mut self, position: u64) -> Option<Pending> {
        let at = self.delayed.keys().find(|(_, delayed)| *delayed == position).copied()?;
        self.delayed.remove(&at)
    }

    fn raise_floor(&mut self) {
        let floor = self.outstanding.first().map_or(self.scanned, |first| *first).saturating_sub(1);
        if floor > self.floor {
            self.floor = floor;
            self.settled.remove_to(floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn window(settled: Positions) -> Window {
        let options = ConsumerOptions::default().window(NonZeroUsize::new(100).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let attempts = Attempts::begin(folder.path(), 1).unwrap();
        Window::new(Recovered { settled, ..Recovered::default() }, &options, attempts)
    }

    #[test]
    fn what_is_settled_behind_a_held_wave_is_one_range_and_of_ranges_there_is_a_bound() {
        let all = Positions::of_ranges([(2, 10_000_000)]);
        assert_eq!((all.len(), window(all).next_scan()), (1, (1, 100)));
        let ranges = MAX_RANGES as u64;
        let each_second = Positions::of_ranges((1..=ranges).map(|number| (2 * number, 1)));
        let window = window(each_second);
        assert_eq!(window.next_scan(), (1, 100), "after a start what was held is looked for");
        window.state.lock().outstanding.insert(1);
        window.add(Vec::new(), 3);
        assert_eq!(window.next_scan(), (3, 0), "nothing more is looked at");
        // The wave that was held has ended.
        window.state.lock().outstanding.remove(&1);
        window.add(Vec::new(), 4);
        assert_eq!(window.next_scan(), (4, 100));
    }
}
