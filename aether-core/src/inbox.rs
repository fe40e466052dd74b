//! The inbox: a bounded queue of waves, served by strength, with an exact account of every wave.
//!
//! The router offers waves, one vibrator takes them; media use another one for what waits to be sent. An inbox does
//! not know patterns or transports. One short lock guards it; wakers and callbacks run outside of that lock.

mod ledger;
mod levels;
mod options;

pub use ledger::{Ledger, ShedReason};
pub use options::{InboxOptions, InboxOptionsError, OnShed, Order, WhenFull};

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Instant;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::amplitude::{Floor, amplitude_of_level};
use crate::wave::Wave;
use levels::Levels;

/// What "recently" means for the effective floor: an eviction counts for one to two of these.
const EVICTION_WINDOW: Duration = Duration::from_secs(1);

/// Emitters that wait are woken when this much room is there (or half the inbox), so that a fast receiver and a fast
/// emitter do not pass the processor back and forth for each wave.
const ROOM_WORTH_WAKING_FOR: usize = 512;

/// Emitters that have waited this long are woken for any room at all.
const LONG_WAIT: Duration = Duration::from_millis(1);

/// Whether an offer may be handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Hand the wave back if the inbox is full and its options say that emitters wait.
    IfRoom,
    /// Take it in any case; what is too much is shed.
    Now,
}

/// A bounded, strength-ordered queue of waves with an exact ledger.
pub struct Inbox {
    options: InboxOptions,
    state: Mutex<State>,
    /// Wakes emitters that wait for room.
    room: Notify,
}

struct State {
    levels: Levels<Queued>,
    bytes: usize,
    /// All counts but `queued`, which is the length of `levels`.
    ledger: Ledger,
    receiver: Option<Waker>,
    /// Since when an emitter waits for room, if one does.
    waiting_since: Option<Instant>,
    /// An emitter's patience was exhausted and the inbox has not been half empty since.
    impatient: bool,
    closed: bool,
    evictions: Evictions,
}

struct Queued {
    wave: Wave,
    /// When it was queued; read from the clock only where a sojourn cap needs it.
    since: Option<Instant>,
}

/// The strongest level evicted in the current and in the previous window.
#[derive(Default)]
struct Evictions {
    window_start: Option<Instant>,
    current: Option<u8>,
    previous: Option<u8>,
}

impl Evictions {
    fn turn_to(&mut self, now: Instant) {
        let since = self.window_start.map_or(Duration::MAX, |start| now.saturating_duration_since(start));
        if since >= EVICTION_WINDOW {
            self.previous = if since < 2 * EVICTION_WINDOW { self.current } else { None };
            self.current = None;
            self.window_start = Some(now);
        }
    }

    fn note(&mut self, level: u8, now: Instant) {
        self.turn_to(now);
        self.current = Some(self.current.map_or(level, |strongest| strongest.min(level)));
    }

    fn strongest(&mut self, now: Instant) -> Option<u8> {
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
        Ok(Self {
            options,
            state: Mutex::new(State {
                levels: Levels::new(),
                bytes: 0,
                ledger: Ledger::default(),
                receiver: None,
                waiting_since: None,
                impatient: false,
                closed: false,
                evictions: Evictions::default(),
            }),
            room: Notify::new(),
        })
    }

    /// Offers a wave; hands it back only if `offer` allows that and emitters shall wait.
    pub(crate) fn offer(&self, wave: Wave, offer: Offer) -> Result<(), Wave> {
        let audible = wave.audible_at(Instant::now, self.options.floor);
        let since = self.options.sojourn_cap.map(|_| Instant::now());
        let weight = wave.weight();
        let mut shed = Shed::new();
        let waker = {
            let mut state = self.state.lock();
            let refusal = if state.closed {
                Some(ShedReason::Closed)
            } else if !audible {
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
                None
            } else {
                if offer == Offer::IfRoom && !self.takes(&state, weight) {
                    state.waiting_since.get_or_insert_with(Instant::now);
                    return Err(wave);
                }
                state.ledger.offered += 1;
                state.bytes += weight;
                state.levels.push(wave.signal().level(), Queued { wave, since });
                while state.levels.len() > self.options.max_waves || state.bytes > self.options.max_bytes {
                    self.evict(&mut state, &mut shed);
                }
                state.receiver.take()
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        self.report(shed);
        Ok(())
    }

    /// Whether a wave of this weight is taken without making its emitter wait.
    fn takes(&self, state: &State, weight: usize) -> bool {
        self.options.when_full == WhenFull::Shed
            || state.impatient
            || (state.levels.len() < self.options.max_waves && state.bytes + weight <= self.options.max_bytes)
    }

    /// Whether an emitter of this wave would not have to wait now. Waves that are refused anyway need no room.
    pub(crate) fn has_room_for(&self, wave: &Wave) -> bool {
        let weight = wave.weight();
        let state = self.state.lock();
        state.closed || weight > self.options.max_bytes || self.takes(&state, weight)
    }

    fn evict(&self, state: &mut State, shed: &mut Shed) {
        if let Some((level, queued)) = state.levels.pop_weakest() {
            state.bytes -= queued.wave.weight();
            state.ledger.count_loss(ShedReason::Full);
            state.evictions.note(level, Instant::now());
            shed.push((queued.wave, ShedReason::Full));
        }
    }

    /// Offers a wave and waits for room if need be, at most as long as the options say.
    ///
    /// Cancel safety: cancelled while it waits, the wave was not offered; the caller still has its clone.
    pub(crate) async fn offer_patiently(&self, wave: &Wave) {
        let WhenFull::Wait { patience } = self.options.when_full else {
            let _ = self.offer(wave.clone(), Offer::Now);
            return;
        };
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before the offer, so that room made in between is not missed.
            room.as_mut().enable();
            if self.offer(wave.clone(), Offer::IfRoom).is_ok() {
                return;
            }
            tokio::select! {
                () = room => {}
                () = &mut deadline => {
                    self.state.lock().impatient = true;
                    // Those who wait beside this emitter need not wait any longer either.
                    self.room.notify_waiters();
                    let _ = self.offer(wave.clone(), Offer::Now);
                    return;
                }
            }
        }
    }

    /// The next wave, or `None` when the inbox is closed and empty. One task at a time may poll.
    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Option<Wave>> {
        self.poll_take(cx, |levels| match self.options.order {
            Order::Strength => levels.pop_strongest(),
            Order::Arrival => levels.pop_oldest(),
        })
    }

    /// The strongest wave that `wanted` accepts, the others stay queued. `seen` marks how far earlier polls of the
    /// same wait have looked; start with 0.
    pub(crate) fn poll_receive_where(
        &self,
        cx: &mut Context<'_>,
        seen: &mut u64,
        mut wanted: impl FnMut(&Wave) -> bool,
    ) -> Poll<Option<Wave>> {
        let polled = self.poll_take(cx, |levels| {
            let found = levels.pop_where(*seen, |queued| wanted(&queued.wave));
            if found.is_none() {
                *seen = levels.arrivals();
            }
            found
        });
        polled
    }

    fn poll_take(
        &self,
        cx: &mut Context<'_>,
        mut pop: impl FnMut(&mut Levels<Queued>) -> Option<(u8, Queued)>,
    ) -> Poll<Option<Wave>> {
        let mut shed = Shed::new();
        let mut state = self.state.lock();
        let taken = loop {
            let Some((_, queued)) = pop(&mut state.levels) else { break None };
            state.bytes -= queued.wave.weight();
            match self.too_late(&queued) {
                None => {
                    state.ledger.delivered += 1;
                    break Some(queued.wave);
                }
                Some(reason) => {
                    state.ledger.count_loss(reason);
                    shed.push((queued.wave, reason));
                }
            }
        };
        let wake_emitters = self.settle_room(&mut state);
        let polled = match taken {
            Some(wave) => Poll::Ready(Some(wave)),
            None if state.closed => Poll::Ready(None),
            None => {
                if !state.receiver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.receiver = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        };
        drop(state);
        if wake_emitters {
            self.room.notify_waiters();
        }
        self.report(shed);
        polled
    }

    /// Takes several waves at once, the strongest first: at most so many, and of at most so many bytes together, but
    /// one at least. What a medium does with the waves it sends.
    pub(crate) fn take_many(&self, most: usize, most_bytes: usize, into: &mut Vec<Wave>) {
        let mut state = self.state.lock();
        let mut bytes = 0;
        while into.len() < most && bytes < most_bytes {
            let Some((_, queued)) = state.levels.pop_strongest() else { break };
            let weight = queued.wave.weight();
            bytes += weight;
            state.bytes -= weight;
            state.ledger.delivered += 1;
            into.push(queued.wave);
        }
        let wake_emitters = self.settle_room(&mut state);
        drop(state);
        if wake_emitters {
            self.room.notify_waiters();
        }
    }

    /// Waits until the inbox holds something (true) or is closed and empty (false).
    pub(crate) async fn filled(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.levels.len() > 0 {
                return Poll::Ready(true);
            }
            if state.closed {
                return Poll::Ready(false);
            }
            state.receiver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Ends the impatience of a half-empty inbox, and says whether waiting emitters should be woken.
    fn settle_room(&self, state: &mut State) -> bool {
        let (len, max) = (state.levels.len(), self.options.max_waves);
        if state.impatient && len <= max / 2 && state.bytes <= self.options.max_bytes / 2 {
            state.impatient = false;
        }
        let Some(since) = state.waiting_since else { return false };
        let worth_it = max - len >= ROOM_WORTH_WAKING_FOR.min(max.div_ceil(2))
            && state.bytes <= self.options.max_bytes / 2;
        if worth_it || len == 0 || (len < max && since.elapsed() >= LONG_WAIT) {
            state.waiting_since = None;
            return true;
        }
        false
    }

    fn too_late(&self, queued: &Queued) -> Option<ShedReason> {
        if let (Some(cap), Some(since)) = (self.options.sojourn_cap, queued.since)
            && since.elapsed() > cap
        {
            return Some(ShedReason::Sojourn);
        }
        (!queued.wave.audible_at(Instant::now, self.options.floor)).then_some(ShedReason::Expired)
    }

    fn report(&self, shed: Shed) {
        if let Some(on_shed) = &self.options.on_shed {
            for (wave, reason) in &shed {
                on_shed(wave, *reason);
            }
        }
    }

    /// Takes no more waves; what is queued can still be received.
    pub(crate) fn close(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.closed = true;
            state.waiting_since = None;
            state.receiver.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        self.room.notify_waiters();
    }

    /// Closes, and counts what is still queued as lost with the receiver.
    pub(crate) fn abandon(&self) {
        self.close();
        let mut shed = Shed::new();
        {
            let mut state = self.state.lock();
            while let Some((_, queued)) = state.levels.pop_strongest() {
                state.ledger.count_loss(ShedReason::Closed);
                shed.push((queued.wave, ShedReason::Closed));
            }
            state.bytes = 0;
        }
        self.report(shed);
    }

    /// The account so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let state = self.state.lock();
        Ledger { queued: state.levels.len() as u64, ..state.ledger }
    }

    /// What the receiver hears in effect: the configured floor, or the strongest level that had to be evicted in the
    /// last one to two seconds, whichever is higher.
    #[must_use]
    pub fn effective_floor(&self) -> Floor {
        let evicted = self.state.lock().evictions.strongest(Instant::now());
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
