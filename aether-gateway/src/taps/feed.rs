//! A feed: the waves that match one filter, for all clients that want just these.
//!
//! Waves collect in an open batch. The first client that looks after a pause takes it at once; from then on a batch is
//! open for [`COLLECTING`], so of a thousand waves a second twenty share a message, and all clients that keep up send
//! the same batches. Each client has a place in the feed and takes what lies behind it. Batches that all have taken are
//! forgotten; when there are too many, the oldest are given up, and counted for those that have not taken them.
//!
//! Where all clients of a [`CROWD`] took a batch at the same moment, most of them would wait for the others to be sent
//! it. So each of them has a rhythm of its own, and batches are smaller.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aether_core::{Pattern, Wave};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::{Batch, Seen};
use super::filter::Filter;
use crate::bucket::TokenBucket;

/// The maximum number of waves that wait in a feed.
pub(super) const MOST_WAVES: usize = 1024;
/// The maximum number of waves in a batch, and about the maximum that a client takes at once.
pub(super) const BATCH: usize = 128;
/// A batch has at most this part of the bytes that may wait.
const PART: usize = 8;
/// How long waves collect after some were sent, so that a thousand clients cost 50,000 writes a second and not a million.
pub(super) const COLLECTING: Duration = Duration::from_millis(20);

/// With more clients than this, each looks [`COLLECTING`] after it has looked itself, and a batch is open for a [`STEP`].
pub(super) const CROWD: usize = 100;
/// A client of a crowd takes about four batches at once.
pub(super) const STEP: Duration = Duration::from_millis(5);

/// The common part of clients that share a feed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) filter: Filter,
    /// The channels that they may hear.
    pub(super) hear: Vec<Pattern>,
    pub(super) per_second: Option<u32>,
    /// The maximum number of bytes that wait.
    pub(super) max_bytes: usize,
}

/// The feed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) wanted: Wanted,
    /// Waves that clients were not sent, of all feeds.
    missed: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sealed: VecDeque<Sealed>,
    /// The number of waves that were ever sealed.
    end: u64,
    /// Waves and bytes in the sealed batches.
    waves: usize,
    bytes: usize,
    open: Vec<Arc<Seen>>,
    open_bytes: usize,
    /// When a batch was sealed last.
    sealed_at: Option<Instant>,
    rate: Option<TokenBucket>,
    /// The waves that the rate left out.
    left_out: u64,
    wakes: Vec<Arc<Notify>>,
}

#[derive(Debug)]
struct Sealed {
    batch: Arc<Batch>,
    /// The number of its first wave.
    begin: u64,
    bytes: usize,
    /// How many clients have not taken it.
    unread: usize,
}

/// The place of a client in a feed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    next: u64,
    left_out: u64,
}

/// The batches that a client takes.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) batches: Vec<Arc<Batch>>,
    /// Waves that the client was not sent, before the waves of the batches.
    pub(crate) missed: u64,
    /// When it is worth looking again. Without it, the client is woken.
    pub(crate) again: Option<Instant>,
}

impl Feed {
    pub(super) fn new(wanted: Wanted, missed: Arc<AtomicU64>) -> Self {
        let rate = wanted.per_second.map(|waves| TokenBucket::new(waves, f64::from(waves), Instant::now()));
        let state = State {
            sealed: VecDeque::new(),
            end: 0,
            waves: 0,
            bytes: 0,
            open: Vec::new(),
            open_bytes: 0,
            sealed_at: None,
            rate,
            left_out: 0,
            wakes: Vec::new(),
        };
        Self { wanted, missed, state: Mutex::new(state) }
    }

    pub(super) fn wants(&self, wave: &Wave) -> bool {
        self.wanted.filter.matches(wave)
            && self.wanted.hear.iter().any(|pattern| pattern.matches(wave.channel()))
    }

    /// Adds a client. It takes what comes from now on.
    pub(super) fn join(&self, wake: Arc<Notify>) -> Place {
        let mut state = self.state.lock();
        self.seal(&mut state, Instant::now());
        state.wakes.push(wake);
        Place { next: state.end, left_out: state.left_out }
    }

    /// The number of waves in batches that somebody has not taken.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waves
    }

    /// Removes a client. Returns whether it was the last one.
    pub(super) fn leave(&self, place: Place, wake: &Arc<Notify>) -> bool {
        let mut state = self.state.lock();
        if let Some(at) = state.wakes.iter().position(|known| Arc::ptr_eq(known, wake)) {
            state.wakes.swap_remove(at);
        }
        // What is open counts when it is sealed, for those that are there then.
        for sealed in state.sealed.iter_mut().filter(|sealed| sealed.begin >= place.next) {
            sealed.unread = sealed.unread.saturating_sub(1);
        }
        state.forget();
        state.wakes.is_empty()
    }

    pub(super) fn push(&self, seen: &Arc<Seen>, now: Instant) {
        let mut state = self.state.lock();
        if let Some(rate) = &mut state.rate
            && rate.take(now).is_err()
        {
            // Clients learn of it with the next wave: a message for each wave that they do not want would be a flood
            // itself.
            state.left_out += 1;
            self.miss(1, state.wakes.len());
            return;
        }
        let was_empty = state.open.is_empty();
        state.open_bytes += seen.wave.weight();
        state.open.push(Arc::clone(seen));
        if state.open.len() >= BATCH || state.open_bytes >= self.wanted.max_bytes / PART {
            // Not the time of a message: those that keep up have it collected until then.
            let sealed_at = state.sealed_at;
            self.seal(&mut state, now);
            state.sealed_at = sealed_at;
        }
        if was_empty {
            state.wakes.iter().for_each(|wake| wake.notify_one());
        }
    }

    /// The waves after the place of a client, at most about [`BATCH`]. If there is more, it is woken again.
    pub(super) fn take(&self, place: &mut Place, wake: &Notify, now: Instant) -> Taken {
        let mut state = self.state.lock();
        let is_crowd = state.wakes.len() > CROWD;
        let open_for = if is_crowd { STEP } else { COLLECTING };
        let is_due = state.sealed_at.is_none_or(|at| now >= at + open_for);
        if is_due {
            self.seal(&mut state, now);
        }
        let oldest = state.sealed.front().map_or(state.end, |sealed| sealed.begin);
        let mut missed = state.left_out - place.left_out;
        place.left_out = state.left_out;
        if oldest > place.next {
            missed += oldest - place.next;
            place.next = oldest;
        }
        let from = state.sealed.partition_point(|sealed| sealed.begin < place.next);
        let (mut batches, mut waves) = (Vec::new(), 0);
        for sealed in state.sealed.range_mut(from..) {
            if waves > 0 && waves + sealed.batch.len() > BATCH {
                break;
            }
            waves += sealed.batch.len();
            sealed.unread = sealed.unread.saturating_sub(1);
            batches.push(Arc::clone(&sealed.batch));
        }
        place.next += waves as u64;
        let has_more = place.next < state.end;
        if has_more {
            wake.notify_one();
        }
        let collects = !has_more && (!batches.is_empty() || !state.open.is_empty());
        let again = match is_crowd && !batches.is_empty() {
            true => Some(now + COLLECTING),
            false => state.sealed_at.map(|at| at + open_for).filter(|at| *at > now),
        };
        let again = again.filter(|_| collects);
        state.forget();
        Taken { batches, missed, again }
    }

    fn seal(&self, state: &mut State, now: Instant) {
        if state.open.is_empty() {
            return;
        }
        let batch = Arc::new(Batch::new(std::mem::take(&mut state.open)));
        let (waves, bytes) = (batch.len(), std::mem::take(&mut state.open_bytes));
        let unread = state.wakes.len();
        state.sealed.push_back(Sealed { batch, begin: state.end, bytes, unread });
        state.end += waves as u64;
        state.waves += waves;
        state.bytes += bytes;
        state.sealed_at = Some(now);
        while state.sealed.len() > 1 && (state.waves > MOST_WAVES || state.bytes > self.wanted.max_bytes) {
            if let Some(oldest) = state.pop() {
                self.miss(oldest.batch.len() as u64, oldest.unread);
            }
        }
    }

    fn miss(&self, waves: u64, clients: usize) {
        self.missed.fetch_add(waves * clients as u64, Ordering::Relaxed);
    }
}

impl State {
    fn pop(&mut self) -> Option<Sealed> {
        let oldest = self.sealed.pop_front()?;
        self.waves -= oldest.batch.len();
        self.bytes -= oldest.bytes;
        Some(oldest)
    }

    /// Forgets what all have taken.
    fn forget(&mut self) {
        while self.sealed.front().is_some_and(|sealed| sealed.unread == 0) {
            drop(self.pop());
        }
    }
}
