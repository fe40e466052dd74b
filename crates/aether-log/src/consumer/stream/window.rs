//! The waves that a process holds of a consumer in JetStream: a window, served by strength.
//!
//! The server knows which waves are acknowledged; nothing here survives the process. Pinned, a wave that failed pauses
//! here, where it holds its key.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::pin::Numbers;
use crate::consumer::error::WeightError;
use crate::consumer::options::ConsumerOptions;
use crate::consumer::pace::Pace;
use crate::consumer::queue::{JobState, QueuedJob, Tally};
use crate::consumer::ready::{Order, Ready};
use crate::consumer::window::Failures;
use crate::jetstream::{InParts, JetStreamError};
use crate::stored_wave::StoredWave;

/// The greatest number of waves that a process holds. Each is kept alive at the server by a message from time to time.
const MAX_HELD: usize = 8192;
/// The contents of waiting waves, in bytes, at which no more are asked for.
const MAX_BYTES: usize = 32 << 20;
/// The number of acknowledged waves that are recognised when they are delivered again, because the acknowledgement was
/// lost on the way.
const ACKNOWLEDGED: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();
/// The number of failing waves whose errors are remembered here. The others are asked for.
const FAILING: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// The number of failed waves that pause at the server and are known here, and the bytes of their contents. The others
/// come when they are due.
const PAUSED: (usize, usize) = (4096, 8 << 20);

/// How many waves a process holds.
pub(super) fn max_held(options: &ConsumerOptions) -> usize {
    options.window.get().min(MAX_HELD)
}

/// Where the parts of a wave are that is larger than a message may be. It is collected when it is delivered.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) parts: InParts,
    /// The subject of the wave.
    pub(super) subject: Subject,
}

/// A wave that waits.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Without its payload, if it is cut.
    pub(super) stored: StoredWave,
    pub(super) cut: Option<Arc<Cut>>,
    pub(super) order: Order,
    pub(super) id: u128,
    /// Where it is acknowledged.
    pub(super) reply: Subject,
    /// How often the server has delivered it.
    pub(super) delivered: u64,
    /// The number of this delivery.
    pub(super) delivery: u64,
    pub(super) bytes: usize,
    /// When the server last heard of it.
    pub(super) touched: Instant,
    /// Its failures, and whether the server knows of some, if an attempt has ended here.
    pub(super) known: Option<(Failures, bool)>,
}

impl Held {
    pub(super) const fn numbers(&self) -> Numbers {
        Numbers { position: self.order.position, delivery: self.delivery, times: self.delivered }
    }
}

/// A wave that was taken.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub(super) stored: StoredWave,
    pub(super) cut: Option<Arc<Cut>>,
    pub(super) reply: Subject,
    touched: Instant,
    since: Instant,
    bytes: usize,
}

/// Whether a wave may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    Always,
    /// Pinned, for as long as no other process can have got the waves that are here.
    Until(Instant),
    Never,
}

#[derive(Debug)]
struct State {
    ready: Ready<Held>,
    begins: Begins,
    /// Pinned: waves that failed, by the instant of their next attempt.
    paused: BTreeMap<(Instant, u64), Held>,
    in_flight: BTreeMap<u64, InFlight>,
    /// Waves that failed and pause at the server, by the instant of their next attempt.
    later: BTreeMap<(Instant, u64), InFlight>,
    /// The contents of these, in bytes.
    later_bytes: usize,
    is_paused: bool,
    pace: Pace,
    /// The contents of the ready ones, in bytes.
    bytes: usize,
    acknowledged: LruCache<u128, ()>,
    failing: LruCache<u64, Failures>,
    expired: u64,
    /// Why pulling has ended.
    ended: Option<JetStreamError>,
    /// The pulling task waits for room.
    wants_room: bool,
    /// The wave that is delivered with nothing else in flight, or waits for that.
    alone: Option<u64>,
    /// Pinned: another process may have handled until waves begin.
    is_newly_pinned: bool,
}

/// The window of a process, shared by all its consumers of a name.
#[derive(Debug)]
pub(super) struct StreamWindow {
    state: Mutex<State>,
    max_held: usize,
    /// There may be something to take.
    pub(super) changed: Notify,
    /// There is room again.
    pub(super) room: Notify,
    /// It is not clear any more which waves the server counts as acknowledged.
    pub(super) unclear: Notify,
}

impl StreamWindow {
    pub(super) fn new(options: &ConsumerOptions) -> Self {
        let state = State {
            ready: Ready::new(options),
            begins: if options.is_pinned() { Begins::Never } else { Begins::Always },
            paused: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            later: BTreeMap::new(),
            later_bytes: 0,
            is_paused: false,
            pace: Pace::new(Instant::now()),
            bytes: 0,
            acknowledged: LruCache::unbounded(),
            failing: LruCache::new(FAILING),
            expired: 0,
            ended: None,
            wants_room: false,
            alone: None,
            is_newly_pinned: false,
        };
        let (max_held, [changed, room, unclear]) = (max_held(options), [(); 3].map(|()| Notify::new()));
        Self { state: Mutex::new(state), max_held, changed, room, unclear }
    }

    pub(super) fn set_weight(&self, tenant: &str, weight: NonZeroU32) -> Result<(), WeightError> {
        self.state.lock().ready.set_weight(tenant, weight)
    }

    /// How many waves, and of how many bytes, may be asked for. `None`: `room` is notified when there is room.
    pub(super) fn room(&self) -> Option<(usize, usize)> {
        let mut state = self.state.lock();
        let room = state.room(self.max_held);
        state.wants_room = room.is_none();
        room
    }

    /// Adds waves that the server has delivered. Returns where to acknowledge those that were acknowledged already.
    pub(super) fn add(&self, delivered: impl IntoIterator<Item = Held>) -> Vec<Subject> {
        let mut state = self.state.lock();
        let mut known = Vec::new();
        for held in delivered {
            let position = held.order.position;
            if state.acknowledged.get(&held.id).is_some() {
                known.push(held.reply);
            } else if let Some(in_flight) = state.in_flight.get_mut(&position) {
                (in_flight.reply, in_flight.touched) = (held.reply, held.touched);
            } else if let Some(paused) =
                state.paused.values_mut().find(|paused| paused.order.position == position)
            {
                (paused.reply, paused.touched) = (held.reply, held.touched);
            } else {
                state.ready(held);
            }
        }
        drop(state);
        self.changed.notify_waiters();
        known
    }

    /// The next wave to deliver, or when there is one.
    pub(super) fn take(&self, max_in_flight: usize) -> Result<Result<Held, Option<Instant>>, JetStreamError> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        if state.in_flight.len() >= max_in_flight || state.alone.is_some() || state.is_paused {
            return Ok(Err(None));
        }
        while let Some(due) = state.paused.first_entry().filter(|due| due.key().0 <= now) {
            let held = due.remove();
            state.bytes -= held.bytes;
            state.ready(held);
        }
        let may_begin = state.may_begin(now);
        let Some(held) = may_begin.then(|| state.ready.take()).flatten() else {
            let paused = state.paused.first_key_value().map(|((due, _), _)| *due);
            let limited = may_begin.then(|| state.ready.due()).flatten();
            let due = paused.into_iter().chain(limited).min();
            return state.ended.take().map_or(Ok(Err(due)), Err);
        };
        state.begin_flight(&held, now);
        Ok(Ok(held))
    }

    /// Whether a wave that was taken may still begin.
    pub(super) fn may_begin(&self) -> bool {
        self.state.lock().may_begin(Instant::now())
    }

    /// A wave that was taken is delivered.
    pub(super) fn delivered(&self, position: u64) {
        self.state.lock().ready.delivered(position);
    }

    /// Pinned: waves may begin until this instant.
    pub(super) fn begin_until(&self, until: Instant) {
        let mut state = self.state.lock();
        let may_begin = state.may_begin(Instant::now());
        state.begins = Begins::Until(until);
        if std::mem::take(&mut state.is_newly_pinned) {
            state.ready.take_over();
        }
        drop(state);
        if !may_begin {
            self.changed.notify_waiters();
        }
    }

    /// Pinned: an acknowledgement was not confirmed. Nothing begins before it is clear what the server knows.
    pub(super) fn doubt(&self) {
        self.state.lock().begins = Begins::Never;
        self.unclear.notify_one();
    }

    /// Pinned: this process handles from now on. Nothing begins before it has all that is in flight.
    pub(super) fn take_over(&self) {
        let mut state = self.state.lock();
        (state.begins, state.is_newly_pinned) = (Begins::Never, true);
    }

    /// Pinned: nothing begins any more.
    pub(super) fn close(&self) {
        self.state.lock().begins = Begins::Never;
    }

    /// Waits until a wave that was taken is the only one in flight, and keeps it so until it has ended. False if another one
    /// has this first.
    pub(super) async fn alone(&self, position: u64) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                if *state.alone.get_or_insert(position) != position {
                    return false;
                }
                if state.in_flight.len() <= 1 {
                    return true;
                }
            }
            changed.await;
        }
    }

    /// A delivery that was not begun, or whose next attempt is due at an instant. Returns where to give it back if it cannot
    /// stay.
    pub(super) fn put_back(&self, mut held: Held, due: Option<Instant>) -> Option<Subject> {
        let mut state = self.state.lock();
        let position = held.order.position;
        InFlight { reply: held.reply, touched: held.touched, .. } = state.end_flight(position)?;
        let mut back = None;
        match due {
            // Another process may have got it since.
            _ if state.begins == Begins::Never => back = Some(held.reply),
            None => state.ready(held),
            Some(due) => {
                state.bytes += held.bytes;
                state.paused.insert((due, position), held);
            }
        }
        drop(state);
        self.changed.notify_waiters();
        back
    }

    /// Where a wave in flight is acknowledged.
    pub(super) fn reply(&self, position: u64) -> Option<Subject> {
        self.state.lock().in_flight.get(&position).map(|flight| flight.reply.clone())
    }

    /// A delivery that has ended; with its id, if it was acknowledged. Returns it, with where it is answered.
    pub(super) fn settle(&self, position: u64, acknowledged: Option<u128>) -> Option<InFlight> {
        let mut state = self.state.lock();
        let flight = state.end_flight(position)?;
        if let Some(id) = acknowledged {
            state.acknowledged.put(id, ());
            if state.acknowledged.len() > ACKNOWLEDGED.get() {
                state.acknowledged.pop_lru();
            }
            state.failing.pop(&position);
            state.ready.ended(position);
            state.pace.note(Instant::now(), 1);
        }
        let has_room = state.wants_room && state.room(self.max_held).is_some();
        state.wants_room &= !has_room;
        drop(state);
        if has_room {
            self.room.notify_one();
        }
        // One may wait because too many were in flight.
        self.changed.notify_waiters();
        Some(flight)
    }

    /// A wave that failed pauses at the server.
    pub(super) fn pauses(&self, due: Instant, flight: InFlight) {
        let mut state = self.state.lock();
        state.forget_due(Instant::now());
        if state.later.len() < PAUSED.0 && state.later_bytes + flight.bytes <= PAUSED.1 {
            state.later_bytes += flight.bytes;
            state.later.insert((due, flight.stored.position), flight);
        }
    }

    /// Takes out this wave, or all, of those that pause at the server.
    pub(super) fn take_paused(&self, position: Option<u64>) -> Vec<InFlight> {
        let mut state = self.state.lock();
        state.forget_due(Instant::now());
        let is_meant = |other: u64| position.is_none_or(|position| position == other);
        let meant: Vec<_> = state.later.keys().filter(|(_, other)| is_meant(*other)).copied().collect();
        let taken: Vec<_> = meant.iter().filter_map(|at| state.later.remove(at)).collect();
        state.later_bytes -= taken.iter().map(|flight| flight.bytes).sum::<usize>();
        taken
    }

    /// A wave that paused at the server has ended.
    pub(super) fn ended(&self, position: u64) {
        let mut state = self.state.lock();
        state.failing.pop(&position);
        state.pace.note(Instant::now(), 1);
    }

    /// Pinned: makes this wave due, or all that pause here. Returns how many.
    pub(super) fn retry(&self, position: Option<u64>) -> u64 {
        let mut state = self.state.lock();
        let is_meant = |other: u64| position.is_none_or(|position| position == other);
        let meant: Vec<_> = state.paused.keys().filter(|(_, other)| is_meant(*other)).copied().collect();
        for at in &meant {
            if let Some(held) = state.paused.remove(at) {
                state.bytes -= held.bytes;
                state.ready(held);
            }
        }
        drop(state);
        self.changed.notify_waiters();
        meant.len() as u64
    }

    /// Takes this wave if it waits or pauses here, to end it. It looks at all of them.
    pub(super) fn take_at(&self, position: u64) -> Option<Held> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        if !state.may_begin(now) {
            return None;
        }
        let held = match state.ready.take_at(position) {
            Some(held) => held,
            None => {
                let at = state.paused.keys().find(|(_, paused)| *paused == position).copied()?;
                state.paused.remove(&at)?
            }
        };
        state.begin_flight(&held, now);
        Some(held)
    }

    /// Takes nothing until it goes on.
    pub(super) fn pause(&self, is_paused: bool) {
        self.state.lock().is_paused = is_paused;
        self.changed.notify_waiters();
    }

    pub(super) fn counted(&self) -> Tally {
        let (mut state, now) = (self.state.lock(), Instant::now());
        state.forget_due(now);
        let State { ready, paused, later, in_flight, pace, is_paused, .. } = &mut *state;
        let next =
            [paused.keys().next(), later.keys().next()].into_iter().flatten().map(|(due, _)| *due).min();
        let held =
            ready.iter_mut().map(|held| held.stored.at).chain(paused.values().map(|held| held.stored.at));
        let oldest = held.chain(later.values().map(|flight| flight.stored.at)).min();
        Tally {
            is_paused: *is_paused,
            ready: ready.len() as u64,
            limited: ready.limited() as u64,
            retrying: (paused.len() + later.len()) as u64,
            in_flight: in_flight.len() as u64,
            oldest_waiting: oldest,
            next_due: next.map(|due| due.saturating_duration_since(now)),
            longest: in_flight.values().map(|flight| now.saturating_duration_since(flight.since)).max(),
            done: pace.done(),
            per_second: pace.per_second(now),
        }
    }

    /// The waves in flight and those that pause, by position, from behind this one on.
    pub(super) fn jobs(&self, after: u64, most: usize) -> Vec<QueuedJob> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        state.forget_due(now);
        let flights = state
            .in_flight
            .values()
            .map(|flight| (&flight.stored, JobState::InFlight(now.saturating_duration_since(flight.since))));
        let due = |due: &Instant| JobState::Retrying(due.saturating_duration_since(now));
        let later = state.later.iter().map(|((at, _), flight)| (&flight.stored, due(at)));
        let paused = state.paused.iter().map(|((at, _), held)| (&held.stored, due(at)));
        let all = flights.chain(later).chain(paused).filter(|(stored, _)| stored.position > after);
        let mut all: Vec<_> = all.collect();
        all.sort_unstable_by_key(|(stored, _)| stored.position);
        all.truncate(most);
        let jobs = all.into_iter().map(|(stored, job)| {
            let failures = state.failing.peek(&stored.position);
            QueuedJob {
                position: stored.position,
                wave: Some(stored.wave.clone()),
                attempt: failures.map_or(0, |failures| failures.count) + 1,
                state: job,
                error: failures.and_then(|failures| failures.listed.last()).map(|last| last.error.clone()),
            }
        });
        jobs.collect()
    }

    /// A wave in flight is not delivered, and others of its key need not wait for it. Returns where it is answered.
    pub(super) fn pass_over(&self, position: u64) -> Option<Subject> {
        let InFlight { reply, .. } = self.settle(position, None)?;
        self.state.lock().ready.ended(position);
        self.changed.notify_waiters();
        Some(reply)
    }

    pub(super) fn failures(&self, position: u64) -> Option<Failures> {
        self.state.lock().failing.get(&position).cloned()
    }

    pub(super) fn note_failures(&self, position: u64, failures: Failures) {
        self.state.lock().failing.put(position, failures);
    }

    /// Where to tell the server that waves are still held, of those that it has heard nothing of for a while.
    pub(super) fn untouched(&self, since: Duration) -> Vec<Subject> {
        let mut state = self.state.lock();
        let (now, State { ready, paused, in_flight, .. }) = (Instant::now(), &mut *state);
        let waiting = ready.iter_mut().chain(paused.values_mut());
        let ready = waiting.map(|held| (&held.reply, &mut held.touched));
        let flights = in_flight.values_mut().map(|flight| (&flight.reply, &mut flight.touched));
        let all = ready.chain(flights);
        let late = all.filter(|(_, touched)| now.duration_since(**touched) >= since);
        late.map(|(reply, touched)| {
            *touched = now;
            reply.clone()
        })
        .collect()
    }

    /// Takes out everything that was not delivered, except waves that stay.
    pub(super) fn drain(&self, mut stays: impl FnMut(&Held) -> bool) -> Vec<Subject> {
        let mut state = self.state.lock();
        let paused = std::mem::take(&mut state.paused).into_values();
        let all: Vec<Held> = state.ready.drain().chain(paused).collect();
        state.bytes = 0;
        let mut back = Vec::new();
        for held in all {
            if stays(&held) {
                state.ready(held);
            } else {
                back.push(held.reply);
            }
        }
        back
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.state.lock().in_flight.len() as u64
    }

    pub(super) fn expired(&self) -> u64 {
        self.state.lock().expired
    }

    /// A wave that cannot be read.
    pub(super) fn expire(&self) {
        self.state.lock().expired += 1;
    }

    /// Pulling has ended.
    pub(super) fn end(&self, error: JetStreamError) {
        self.state.lock().ended = Some(error);
        self.changed.notify_waiters();
    }
}

impl State {
    fn ready(&mut self, held: Held) {
        self.bytes += held.bytes;
        let order = held.order.clone();
        if let Some(before) = self.ready.insert(&order, held) {
            self.bytes -= before.bytes;
        }
    }

    fn begin_flight(&mut self, held: &Held, since: Instant) {
        self.bytes -= held.bytes;
        let (stored, cut, reply) = (held.stored.clone(), held.cut.clone(), held.reply.clone());
        let flight = InFlight { stored, cut, reply, touched: held.touched, since, bytes: held.bytes };
        self.in_flight.insert(held.order.position, flight);
    }

    fn end_flight(&mut self, position: u64) -> Option<InFlight> {
        self.alone.take_if(|alone| *alone == position);
        self.ready.free(position);
        self.in_flight.remove(&position)
    }

    /// The server delivers again what is due.
    fn forget_due(&mut self, now: Instant) {
        while let Some(due) = self.later.first_entry().filter(|due| due.key().0 <= now) {
            self.later_bytes -= due.remove().bytes;
        }
    }

    fn may_begin(&self, now: Instant) -> bool {
        match self.begins {
            Begins::Always => true,
            Begins::Until(until) => now < until,
            Begins::Never => false,
        }
    }

    fn room(&self, max_held: usize) -> Option<(usize, usize)> {
        let held = self.ready.len() + self.paused.len() + self.in_flight.len();
        if self.begins == Begins::Never {
            // What is in flight elsewhere has room in any case. It may come one by one.
            let is_crowded = self.bytes > MAX_BYTES / 2;
            let waves = if is_crowded { 1 } else { max_held.saturating_sub(held).max(1) };
            return Some((waves, MAX_BYTES.saturating_sub(self.bytes)));
        }
        // Asked for in portions, so that not every acknowledgement causes a request.
        let has_room = held <= max_held - max_held.div_ceil(4) && self.bytes <= MAX_BYTES / 2;
        has_room.then(|| (max_held - held, MAX_BYTES - self.bytes))
    }
}
