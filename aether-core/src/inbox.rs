//! The inbox: a bounded queue of waves, served by strength, with an exact account of every wave.
//!
//! The router offers waves, one vibrator takes them; media use another one for what waits to be sent. An inbox does
//! not know patterns or transports. One short lock guards it; wakers and callbacks run outside of that lock.
//!
//! The receiver takes a *prefetch* of up to 32 waves at a time while the inbox is less than half full, so that it meets
//! the emitters at the lock once for 32 waves. A prefetch changes nothing that can be observed: its waves count as
//! queued, a stronger wave that arrives is received before them, and when room has to be made they go back.

mod admission;
mod admitting;
mod callback;
mod choosing;
mod ledger;
mod levels;
mod options;
mod outbox;
mod prefetch;
mod receiving;
mod waiting;

pub(crate) use callback::Callback;
pub use ledger::{Ledger, ShedReason};
pub use options::{InboxOptions, InboxOptionsError, OnShed, ServeOrder, WhenFull};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use crate::clock::Moment;
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use crate::amplitude::{Floor, amplitude_of_level};
use crate::wave::Wave;
use admission::{Admission, QueuePosition};
use levels::{Levels, Popped};
use prefetch::Prefetch;

/// What "recently" means for the effective floor: an eviction counts for one to two of these.
const EVICTION_WINDOW: Duration = Duration::from_secs(1);

/// Whether an offer may be handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Prefetch the wave back if emitters shall wait: the inbox is full, or they are too far ahead of the receiver.
    IfRoom,
    /// Prefetch the wave back if the inbox is full and its options say that emitters wait.
    IfFits,
    /// The same as `IfRoom`, of an emitter that has waited at this place.
    Called(QueuePosition),
    /// Take it in any case; what is too much is shed.
    Now,
    /// Take it in any case, but not into what is kept for stronger ones: shed what is too much there.
    Passed,
}

/// A bounded, strength-ordered queue of waves with an exact ledger.
///
/// What emitters write and what the receiver writes are cache lines apart, so that neither takes the other's away.
pub struct Inbox {
    options: InboxOptions,
    made: Moment,
    state: CachePadded<Mutex<InboxState>>,
    /// Locked after `state` where both are.
    prefetch: CachePadded<Mutex<Prefetch>>,
    /// Whether the receiver has a prefetch that was not found empty yet. For the receiver alone.
    has_prefetched: CachePadded<AtomicBool>,
    /// The levels in `state` that hold something, for the receiver to see whether a stronger wave has arrived.
    occupied: CachePadded<AtomicU64>,
}

struct InboxState {
    /// A wave's arrival is a number counted up, or the nanoseconds since the inbox was made if there is a sojourn cap.
    levels: Levels<Wave>,
    /// The waves in the prefetch as of the last look at it; no fewer than there are.
    prefetched: usize,
    /// The weight of what is queued, that of the prefetch as of the last look at it.
    bytes: usize,
    /// Emitters wait for room with so many waves in the inbox; no more than it holds.
    ahead: usize,
    /// Waves of known levels are taken at once while fewer than this many are queued. None if closed, or emitters wait.
    waves_at_once: usize,
    /// The same in bytes, with the wave.
    bytes_at_once: usize,
    admission: Admission,
    /// All counts but `queued`, as of the last look at the prefetch.
    ledger: Ledger,
    receiver: Option<Waker>,
    /// Since when an emitter waits for room, if one does.
    waiting_since: Option<Moment>,
    /// An emitter's patience was exhausted and the inbox has not been half empty since.
    impatient: bool,
    closed: bool,
    evictions: Evictions,
}

impl InboxState {
    /// How many waves are queued, as of the last look at the prefetch; no fewer than there are.
    fn len(&self) -> usize {
        self.levels.len() + self.prefetched
    }
}

/// The strongest level evicted in the current and in the previous window.
#[derive(Default)]
struct Evictions {
    window_start: Option<Moment>,
    current: Option<u8>,
    previous: Option<u8>,
}

impl Evictions {
    fn turn_to(&mut self, now: Moment) {
        let since = self.window_start.map_or(Duration::MAX, |start| now.saturating_duration_since(start));
        if since >= EVICTION_WINDOW {
            self.previous = if since < 2 * EVICTION_WINDOW { self.current } else { None };
            self.current = None;
            self.window_start = Some(now);
        }
    }

    fn note(&mut self, level: u8, now: Moment) {
        self.turn_to(now);
        self.current = Some(self.current.map_or(level, |strongest| strongest.min(level)));
    }

    fn strongest(&mut self, now: Moment) -> Option<u8> {
        self.turn_to(now);
        self.current.into_iter().chain(self.previous).min()
    }
}

/// Waves to report after the lock is released; one is the rule.
type Shed = SmallVec<[(Wave, ShedReason); 1]>;

impl Inbox {
    /// An empty inbox.
    ///
    /// # Errors
    /// [`InboxOptionsError`] names the option that is out of range, and the range.
    pub fn new(options: InboxOptions) -> Result<Self, InboxOptionsError> {
        options.check()?;
        let (ahead, bytes_at_once) = (options.max_waves, options.max_bytes);
        Ok(Self {
            options,
            made: Moment::now(),
            state: CachePadded::new(Mutex::new(InboxState {
                levels: Levels::new(),
                prefetched: 0,
                bytes: 0,
                ahead,
                waves_at_once: ahead,
                bytes_at_once,
                admission: Admission::default(),
                ledger: Ledger::default(),
                receiver: None,
                waiting_since: None,
                impatient: false,
                closed: false,
                evictions: Evictions::default(),
            })),
            prefetch: CachePadded::new(Mutex::default()),
            has_prefetched: CachePadded::new(AtomicBool::new(false)),
            occupied: CachePadded::new(AtomicU64::new(0)),
        })
    }

    /// Offers a wave; hands it back only if `offer` allows that and emitters shall wait.
    pub(crate) fn offer(&self, wave: Wave, offer: Offer) -> Result<(), Wave> {
        let (level, weight) = (wave.signal().level(), wave.weight());
        let mut state = self.state.lock();
        if !self.takes_at_once(&state, &wave, level, weight) {
            return self.offer_with_care(state, wave, offer);
        }
        self.push(&mut state, wave, level, weight);
        let waker = state.receiver.take();
        self.publish(&state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The rule, and a few comparisons: it is heard, and there is room.
    #[inline(always)]
    fn takes_at_once(&self, state: &InboxState, wave: &Wave, level: u8, weight: usize) -> bool {
        state.len() < state.waves_at_once
            && state.bytes + weight <= state.bytes_at_once
            && state.admission.has_seen(level)
            && wave.audible_at(Moment::now, self.options.floor)
    }

    /// The exceptions.
    #[cold]
    fn offer_with_care(
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

    /// Offers waves that cannot wait, as a network brings them, with one lock for all.
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
        } else if !wave.audible_at(Moment::now, self.options.floor) {
            Some(ShedReason::BelowFloor)
        } else if weight > self.options.max_bytes {
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
        self.note_level(state, level);
        let place = if let Offer::Called(place) = offer { place } else { QueuePosition::of_newcomer(level) };
        let waits = match offer {
            Offer::IfRoom | Offer::Called(_) => {
                !self.admits(state, place, weight) || Self::is_ahead(state, level)
            }
            Offer::IfFits => !self.admits(state, place, weight),
            Offer::Now | Offer::Passed => false,
        };
        if waits && self.makes_wait(state) {
            return Err(wave);
        }
        // One that gives up says nothing of who is let in.
        if offer != Offer::Passed {
            state.admission.took(level);
        }
        self.push(state, wave, level, weight);
        self.make_room(state, if offer == Offer::Passed { Some(level) } else { None }, shed);
        Ok(())
    }

    fn push(&self, state: &mut InboxState, wave: Wave, level: u8, weight: usize) {
        state.ledger.offered += 1;
        state.bytes += weight;
        let next = state.levels.last_arrival() + 1;
        let arrival =
            if self.options.sojourn_cap.is_some() { next.max(self.nanos_since_made()) } else { next };
        state.levels.push(level, arrival, wave);
    }

    /// The time that arrivals are marked with where a sojourn cap needs it. Enough for 584 years.
    fn nanos_since_made(&self) -> u64 {
        self.made.elapsed().as_nanos() as u64
    }

    /// Evicts the oldest of the weakest waves until the bounds hold again, those of a level if one is given.
    fn make_room(&self, state: &mut InboxState, passed: Option<u8>, shed: &mut Shed) {
        let kept = |total| passed.map_or(0, |level| state.admission.kept(total, level));
        let max_waves = self.options.max_waves - kept(self.options.max_waves);
        let max_bytes = self.options.max_bytes - kept(self.options.max_bytes);
        let is_over = |state: &InboxState| state.len() > max_waves || state.bytes > max_bytes;
        if is_over(state) {
            self.settle_prefetched(state);
        }
        if !is_over(state) {
            return;
        }
        self.return_prefetched(state);
        while is_over(state) {
            let Some(Popped { level, item: wave, .. }) = state.levels.pop_weakest() else { return };
            state.bytes -= wave.weight();
            state.ledger.count_loss(ShedReason::Full);
            state.evictions.note(level, Moment::now());
            shed.push((wave, ShedReason::Full));
        }
    }

    /// Brings the counts up to date with what the receiver took from its prefetch.
    fn settle_prefetched(&self, state: &mut InboxState) {
        let mut prefetch = self.prefetch.lock();
        let taken = prefetch.settle();
        state.bytes -= taken.bytes;
        state.ledger += taken.ledger;
        state.prefetched = prefetch.len();
    }

    /// Puts the waves of the prefetch back into their levels.
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

    /// Lets the receiver see which levels are occupied. Called before the lock is released.
    fn publish(&self, state: &InboxState) {
        // Most waves change nothing here, and a store would take the line from the receiver.
        if self.occupied.load(Ordering::Relaxed) != state.levels.occupied() {
            self.occupied.store(state.levels.occupied(), Ordering::Release);
        }
    }

    /// What is left to do when the lock is released.
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

    /// Counts waves that were sent to it and lost on the way.
    pub(crate) fn count_lost_upstream(&self, waves: u64) {
        let ledger = &mut self.state.lock().ledger;
        ledger.offered += waves;
        ledger.lost_upstream += waves;
    }

    /// Counts waves that came for a receiver that is gone. [`Inbox::report`] is to follow.
    pub(crate) fn count_closed(&self, waves: u64) {
        let ledger = &mut self.state.lock().ledger;
        ledger.offered += waves;
        ledger.shed_closed += waves;
    }

    /// Calls back for waves that were lost.
    pub(crate) fn report(&self, waves: &[Wave], reason: ShedReason) {
        if let Some(on_shed) = &self.options.on_shed {
            waves.iter().for_each(|wave| on_shed(wave, reason));
        }
    }

    /// The account so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut state = self.state.lock();
        self.settle_prefetched(&mut state);
        Ledger { queued: (state.levels.len() + state.prefetched) as u64, ..state.ledger }
    }

    /// What the receiver hears in effect: the configured floor, or the strongest level that had to be evicted in the
    /// last one to two seconds, whichever is higher.
    #[must_use]
    pub fn effective_floor(&self) -> Floor {
        let evicted = self.state.lock().evictions.strongest(Moment::now());
        evicted
            .map_or(self.options.floor, |level| self.options.floor.max(Floor::at(amplitude_of_level(level))))
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
