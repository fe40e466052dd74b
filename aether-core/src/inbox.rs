//! The inbox: a bounded queue of waves, served by strength, that counts the fate of every wave.
//!
//! The router offers waves and one vibrator takes them. Media use inboxes as outboxes for waves waiting to be sent. An
//! inbox does not depend on patterns or transports. One short lock guards it; wakers and callbacks run outside of that
//! lock.
//!
//! While the inbox is less than half full, the receiver takes a *prefetch* of up to 32 waves at a time, so that it
//! contends with the emitters for the lock once for 32 waves. A prefetch is not observable: its waves count as queued,
//! a stronger wave that arrives is received before them, and they are put back when room has to be made.

mod admission;
pub(crate) mod ledger;
pub(crate) mod options;
mod outbox;
mod queue;
mod receiving;
mod sources;
mod waiting;

pub use crate::router::InboxReport;
pub(crate) use ledger::{Ledger, ShedReason};
pub(crate) use options::Callback;
pub(crate) use options::{InboxOptions, ServeOrder, WhenFull};
pub use options::{InboxOptionsError, OnShed};

use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use smallvec::SmallVec;

use crate::amplitude::{Floor, amplitude_of_level};
use crate::clock::Moment;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard};
use crate::wave::Wave;
use admission::{Admission, QueuePosition, is_weak};
use options::LiveOptions;
use queue::{Levels, Popped, Prefetch};
use sources::Bound;

/// The window in which evictions raise the effective floor: an eviction counts for one to two windows.
const EVICTION_WINDOW: Duration = Duration::from_secs(1);

/// How an offer treats a wave for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Hand the wave back if emitters wait: the inbox is full, or they are too far ahead of the receiver.
    IfRoom,
    /// Hand the wave back if the inbox is full and its options make emitters wait.
    IfFits,
    /// Like `IfRoom`, for an emitter that waited at this position.
    Called(QueuePosition),
    /// Take the wave in any case and shed the excess.
    Now,
    /// Like `Now`, for an emitter that no longer waits or never did: the room that weak waves leave free stays so.
    Unwaited,
}

/// A bounded, strength-ordered queue of waves with an exact ledger.
///
/// Fields written by emitters and fields written by the receiver are on different cache lines, to avoid false sharing.
pub struct Inbox {
    options: InboxOptions,
    /// The options that can change.
    live: LiveOptions,
    made: Moment,
    state: CachePadded<Mutex<InboxState>>,
    /// Lock order: after `state`.
    prefetch: CachePadded<Mutex<Prefetch>>,
    /// Whether the receiver's prefetch may hold waves. Accessed by the receiver only.
    has_prefetched: CachePadded<AtomicBool>,
    /// The occupied levels of `state`, published so that the receiver sees whether a stronger wave arrived.
    occupied: CachePadded<AtomicU64>,
}

struct InboxState {
    /// A wave's arrival is a running number, or the nanoseconds since the inbox was made if there is a sojourn cap.
    levels: Levels<Wave>,
    /// The number of prefetched waves when last checked; an upper bound.
    prefetched: usize,
    /// The weight of what is queued, with the prefetch as of the last check.
    bytes: usize,
    /// Emitters wait once this many waves are queued; at most the capacity.
    ahead: usize,
    /// The same bound while no wave is held.
    ahead_unheld: usize,
    held: Held,
    /// Fast path: a wave is taken while fewer than this many waves are queued, and up to this many bytes with it. First
    /// for waves of normal strength or more, then for weak ones. Zero if closed or if emitters wait.
    at_once: [(usize, usize); 2],
    admission: Admission,
    /// All counts but `queued`, as of the last check of the prefetch.
    ledger: Ledger,
    receiver: Option<Waker>,
    /// When an emitter began to wait for room, if one waits.
    waiting_since: Option<Moment>,
    /// An emitter timed out waiting, and the inbox has not drained to half since.
    timed_out: bool,
    closed: bool,
    evictions: Evictions,
}

impl InboxState {
    /// The number of queued waves, as of the last check of the prefetch; an upper bound.
    fn len(&self) -> usize {
        self.levels.len() + self.prefetched
    }
}

/// Whether emitters of an outbox have a reason to keep waiting: waves are held, or waves are leaving.
#[derive(Default)]
struct Held {
    is_held: bool,
    /// The time at which the last hold ends or ended.
    until: Option<Moment>,
    /// The time at which the last batch was taken, and the weakest level in it.
    last_batch: Option<(Moment, u8)>,
}

/// The strongest level evicted in the current and in the previous window.
#[derive(Default)]
struct Evictions {
    window_start: Option<Moment>,
    current: Option<u8>,
    previous: Option<u8>,
}

impl Evictions {
    fn advance_to(&mut self, now: Moment) {
        let since = self.window_start.map_or(Duration::MAX, |start| now.saturating_duration_since(start));
        if since >= EVICTION_WINDOW {
            self.previous = if since < 2 * EVICTION_WINDOW { self.current } else { None };
            self.current = None;
            self.window_start = Some(now);
        }
    }

    fn note(&mut self, level: u8, now: Moment) {
        self.advance_to(now);
        self.current = Some(self.current.map_or(level, |strongest| strongest.min(level)));
    }

    fn strongest(&mut self, now: Moment) -> Option<u8> {
        self.advance_to(now);
        self.current.into_iter().chain(self.previous).min()
    }
}

/// Waves to report after the lock is released; usually at most one.
type Shed = SmallVec<[(Wave, ShedReason); 1]>;

impl Inbox {
    /// Makes an empty inbox.
    ///
    /// # Errors
    /// [`InboxOptionsError`] names the option that is out of range, and the allowed range.
    pub fn new(options: InboxOptions) -> Result<Self, InboxOptionsError> {
        options.check()?;
        let (ahead, takes_turns) = (options.max_waves, options.takes_turns());
        let inbox = Self {
            live: LiveOptions::new(options.max_waves, options.max_bytes, options.floor),
            options,
            made: Moment::now(),
            state: CachePadded::new(Mutex::new(InboxState {
                levels: Levels::new(takes_turns),
                prefetched: 0,
                bytes: 0,
                ahead,
                ahead_unheld: ahead,
                held: Held::default(),
                at_once: [(0, 0); 2],
                admission: Admission::default(),
                ledger: Ledger::default(),
                receiver: None,
                waiting_since: None,
                timed_out: false,
                closed: false,
                evictions: Evictions::default(),
            })),
            prefetch: CachePadded::new(Mutex::default()),
            has_prefetched: CachePadded::new(AtomicBool::new(false)),
            occupied: CachePadded::new(AtomicU64::new(0)),
        };
        inbox.set_bounds(&mut inbox.state.lock());
        Ok(inbox)
    }

    /// Offers a wave. Hands it back only if `offer` allows that and emitters have to wait.
    #[inline]
    pub(crate) fn offer(&self, wave: Wave, offer: Offer) -> Result<(), Wave> {
        let (level, weight) = (wave.signal().level(), wave.weight());
        let state = self.state.lock();
        if !self.takes_at_once(&state, &wave, level, weight) {
            return self.offer_slowly(state, wave, offer);
        }
        self.push_and_wake(state, wave, level, weight);
        Ok(())
    }

    /// Queues a wave that was found to fit, and wakes the receiver.
    #[inline(always)]
    fn push_and_wake(&self, mut state: MutexGuard<'_, InboxState>, wave: Wave, level: u8, weight: usize) {
        self.push(&mut state, wave, level, weight);
        let waker = state.receiver.take();
        self.publish(&state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The fast path's check: the wave is audible, and there is room.
    #[inline(always)]
    fn takes_at_once(&self, state: &InboxState, wave: &Wave, level: u8, weight: usize) -> bool {
        let (waves, bytes) = state.at_once[usize::from(is_weak(level))];
        state.len() < waves && state.bytes + weight <= bytes && wave.audible_at(Moment::now, self.floor())
    }

    /// The slow path: floors, waiting emitters, eviction.
    #[cold]
    #[inline(never)]
    fn offer_slowly(
        &self,
        mut state: MutexGuard<'_, InboxState>,
        wave: Wave,
        offer: Offer,
    ) -> Result<(), Wave> {
        let mut shed = Shed::new();
        let result = self.put(&mut state, wave, offer, &mut shed);
        let waker = state.receiver.take_if(|_| result.is_ok());
        self.publish(&state);
        drop(state);
        self.after(waker, &shed);
        result
    }

    /// Offers waves that cannot wait, such as those from a network, under one lock.
    pub(crate) fn offer_all(&self, waves: impl IntoIterator<Item = Wave>) {
        let mut shed = Shed::new();
        let mut state = self.state.lock();
        for wave in waves {
            let (level, weight) = (wave.signal().level(), wave.weight());
            if self.takes_at_once(&state, &wave, level, weight) {
                self.push(&mut state, wave, level, weight);
            } else {
                let _ = self.put(&mut state, wave, Offer::Now, &mut shed);
            }
        }
        let waker = state.receiver.take();
        self.publish(&state);
        drop(state);
        self.after(waker, &shed);
    }

    fn put(&self, state: &mut InboxState, wave: Wave, offer: Offer, shed: &mut Shed) -> Result<(), Wave> {
        let weight = wave.weight();
        let refusal = if state.closed {
            Some(ShedReason::Closed)
        } else if !wave.audible_at(Moment::now, self.floor()) {
            Some(ShedReason::BelowFloor)
        } else if weight > self.max_bytes() {
            Some(ShedReason::Full)
        } else {
            None
        };
        if let Some(reason) = refusal {
            state.ledger.offered += 1;
            state.ledger.count_loss(reason);
            shed.push((wave, reason));
            return Ok(());
        }
        let level = wave.signal().level();
        let place = if let Offer::Called(place) = offer { place } else { QueuePosition::of_newcomer(level) };
        let waits = match offer {
            Offer::IfRoom | Offer::Called(_) => {
                !self.admits(state, place, weight) || Self::is_ahead(state, level)
            }
            Offer::IfFits => !self.admits(state, place, weight),
            Offer::Now | Offer::Unwaited => false,
        };
        if waits && self.makes_wait(state) {
            return Err(wave);
        }
        // Neither an emitter that gives up nor one that never waited overtakes the others.
        if offer != Offer::Unwaited {
            state.admission.record_taken(level);
        }
        self.push(state, wave, level, weight);
        self.make_room(state, offer, level, weight, shed);
        Ok(())
    }

    #[inline(always)]
    fn push(&self, state: &mut InboxState, wave: Wave, level: u8, weight: usize) {
        state.ledger.offered += 1;
        state.bytes += weight;
        let next = state.levels.last_arrival() + 1;
        let arrival =
            if self.options.sojourn_cap.is_some() { next.max(self.nanos_since_made()) } else { next };
        state.levels.push(level, arrival, wave);
    }

    /// The arrival time, if a sojourn cap needs it. Enough for 584 years.
    fn nanos_since_made(&self) -> u64 {
        self.made.elapsed().as_nanos() as u64
    }

    /// Evicts the oldest of the weakest waves until the bounds hold again. For a wave that may not use what is kept for
    /// stronger ones, as much is evicted as it takes there, and no more: the stronger ones may be there already.
    fn make_room(&self, state: &mut InboxState, offer: Offer, level: u8, weight: usize, shed: &mut Shed) {
        let (max_waves, max_bytes) = (self.max_waves(), self.max_bytes());
        let (own_waves, own_bytes) =
            if offer == Offer::Now { (max_waves, max_bytes) } else { self.bounds_of(level) };
        let is_over = |state: &InboxState, evicted: (usize, usize)| {
            state.len() > max_waves
                || state.bytes > max_bytes
                || (evicted.0 == 0 && state.len() > own_waves)
                // Where it is alone, it may be larger than what its level may use.
                || (evicted.1 < weight && state.bytes > own_bytes && state.len() > 1)
        };
        let mut evicted = (0, 0);
        if is_over(state, evicted) {
            self.settle_prefetched(state);
        }
        if !is_over(state, evicted) {
            return;
        }
        self.return_prefetched(state);
        while is_over(state, evicted) {
            let bound = if state.len() > own_waves { Bound::Waves } else { Bound::Bytes };
            let Some(Popped { level, item: wave, .. }) = state.levels.pop_weakest(bound) else { return };
            evicted = (evicted.0 + 1, evicted.1 + wave.weight());
            state.bytes -= wave.weight();
            state.ledger.count_loss(ShedReason::Full);
            state.evictions.note(level, Moment::now());
            shed.push((wave, ShedReason::Full));
        }
    }

    /// Updates the counts with what the receiver took from its prefetch.
    fn settle_prefetched(&self, state: &mut InboxState) {
        let mut prefetch = self.prefetch.lock();
        let taken = prefetch.settle();
        state.bytes -= taken.bytes;
        state.ledger += taken.ledger;
        state.prefetched = prefetch.len();
    }

    /// Puts prefetched waves back into their levels.
    fn return_prefetched(&self, state: &mut InboxState) {
        self.settle_prefetched(state);
        if state.prefetched > 0 {
            let mut prefetch = self.prefetch.lock();
            while let Some(popped) = prefetch.take_youngest() {
                state.levels.put_back(popped);
            }
            state.prefetched = 0;
        }
    }

    /// Publishes the occupied levels to the receiver. Called before the lock is released.
    fn publish(&self, state: &InboxState) {
        // Most waves change nothing here, and a store would take the cache line from the receiver.
        if self.occupied.load(Ordering::Relaxed) != state.levels.occupied() {
            self.occupied.store(state.levels.occupied(), Ordering::Release);
        }
    }

    /// Wakes and reports after the lock is released.
    fn after(&self, waker: Option<Waker>, shed: &Shed) {
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(on_shed) = &self.options.on_shed {
            for (wave, reason) in shed {
                on_shed(wave, *reason);
            }
        }
    }

    /// Counts waves addressed to this inbox that were lost on the way.
    pub(crate) fn count_lost_upstream(&self, waves: u64) {
        let ledger = &mut self.state.lock().ledger;
        ledger.offered += waves;
        ledger.lost_upstream += waves;
    }

    /// Counts waves that arrived after the receiver left. The caller must call [`Inbox::report`] next.
    pub(crate) fn count_closed(&self, waves: u64) {
        let ledger = &mut self.state.lock().ledger;
        ledger.offered += waves;
        ledger.shed_closed += waves;
    }

    /// Runs the callback for lost waves.
    pub(crate) fn report(&self, waves: &[Wave], reason: ShedReason) {
        if let Some(on_shed) = &self.options.on_shed {
            waves.iter().for_each(|wave| on_shed(wave, reason));
        }
    }

    /// The counts so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut state = self.state.lock();
        self.settle_prefetched(&mut state);
        Ledger { queued: (state.levels.len() + state.prefetched) as u64, ..state.ledger }
    }

    /// The floor in effect: the configured floor, or the strongest level evicted in the last one to two seconds,
    /// whichever is higher.
    #[must_use]
    pub fn effective_floor(&self) -> Floor {
        let evicted = self.state.lock().evictions.strongest(Moment::now());
        evicted.map_or(self.floor(), |level| self.floor().max(Floor::at(amplitude_of_level(level))))
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("options", &self.options)
            .field("ledger", &self.ledger())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
