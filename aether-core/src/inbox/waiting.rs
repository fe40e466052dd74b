//! Whether an inbox has room for a wave, and the emitters that wait for it.
//!
//! An emitter is woken when there is room for it and then tries again, so several are woken at once and none in vain.
//! For waves of equal strength the wake-up is delayed until enough room is free, so that a fast receiver and a fast
//! emitter do not alternate on the processor for each wave.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::admission::{QueuePosition, is_weak, kept};
use super::options::Adjustable;
use super::{Inbox, InboxState, Offer, Shed, WhenFull};
use crate::amplitude::Floor;
use crate::clock::Moment;
use crate::wave::Wave;

/// Waiting emitters are woken when this much room is free (or half the inbox).
const ROOM_WORTH_WAKING_FOR: usize = 512;

/// Emitters that waited this long are woken for any room at all.
pub(super) const LONG_WAIT: Duration = Duration::from_millis(1);

impl Inbox {
    /// Offers a wave and waits for room if necessary, at most as long as the options allow.
    ///
    /// Cancel safety: if cancelled while it waits, the wave was not offered; the caller still has its clone.
    pub(crate) async fn offer_patiently(&self, wave: &Wave) {
        let WhenFull::Wait { patience } = self.options.when_full else {
            let _ = self.offer(wave.clone(), Offer::Now);
            return;
        };
        let mut emitter = WaitingEmitter { inbox: self, wave, place: None };
        // The future is polled before the timer, so an emitter admitted at the last moment has not timed out.
        while tokio::time::timeout(patience, std::future::poll_fn(|cx| emitter.poll(cx))).await.is_err() {
            // In an outbox only the time without progress counts.
            if !self.is_moving(wave.signal().level(), patience) {
                return emitter.give_up();
            }
        }
    }

    /// Removes emitters from the queue, the strongest first, if there is room for them and it is worthwhile or urgent.
    /// The caller wakes them after releasing the lock.
    #[cold]
    pub(super) fn call_emitters(&self, state: &mut InboxState, is_urgent: bool) -> Vec<Waker> {
        let len = state.len();
        let (Some(since), Some(first)) = (state.waiting_since, state.admission.first()) else {
            return Vec::new();
        };
        let room = self.allowed(state, first.level).saturating_sub(len);
        if room == 0 {
            return Vec::new();
        }
        let worth_it =
            room >= ROOM_WORTH_WAKING_FOR.min(state.ahead.div_ceil(2)) && state.bytes <= self.max_bytes() / 2;
        let all = is_urgent || worth_it || len == 0 || since.elapsed() >= LONG_WAIT;
        let (mut called, mut bytes) = (Vec::new(), 0);
        while let Some((next, weight)) = state.admission.first_with_weight()
            // A wave stronger than something queued would be received before it.
            && (all || state.levels.weakest().is_some_and(|weakest| next.level < weakest))
            && len + called.len() < self.allowed(state, next.level)
            && self.has_room(state, next.level, weight, (called.len(), bytes))
        {
            called.extend(state.admission.take_first());
            bytes += weight;
        }
        if !called.is_empty() {
            state.waiting_since = (!state.admission.none_wait()).then(Moment::now);
            self.set_bounds(state);
        }
        called
    }

    /// Removes all waiting emitters, to wake them whether there is room or not.
    pub(super) fn call_all(&self, state: &mut InboxState) -> Vec<Waker> {
        state.waiting_since = None;
        let called = state.admission.call_all();
        self.set_bounds(state);
        called
    }

    /// Whether the inbox has drained to half, so that emitters may wait again.
    pub(super) fn is_half_empty(&self, state: &InboxState) -> bool {
        state.len() <= state.ahead / 2 && state.bytes <= self.max_bytes() / 2
    }
}

pub(super) fn wake(called: Vec<Waker>) {
    called.into_iter().for_each(Waker::wake);
}

/// An emitter waiting for room. It leaves the queue when dropped.
struct WaitingEmitter<'a> {
    inbox: &'a Inbox,
    wave: &'a Wave,
    /// Kept until it is admitted, even after it was called.
    place: Option<QueuePosition>,
}

impl WaitingEmitter<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let (inbox, mut shed) = (self.inbox, Shed::new());
        let mut state = inbox.state.lock();
        if self.place.is_some_and(|place| state.admission.is_still_waiting(place, cx.waker())) {
            return Poll::Pending;
        }
        // A called emitter goes before those waiting behind it.
        let offer = self.place.map_or(Offer::IfRoom, Offer::Called);
        if inbox.put(&mut state, self.wave.clone(), offer, &mut shed).is_err() {
            let (level, source) = (self.wave.signal().level(), self.wave.source());
            let place = *self.place.get_or_insert_with(|| state.admission.place(level, source));
            state.admission.wait(place, source, self.wave.weight(), cx.waker());
            state.waiting_since.get_or_insert_with(Moment::now);
            // Without a prefetch the receiver takes the lock for every wave and sees the waiting emitters.
            inbox.return_prefetched(&mut state);
            inbox.set_bounds(&mut state);
            inbox.publish(&state);
            return Poll::Pending;
        }
        self.place = None;
        inbox.update_waiting_since(&mut state);
        let receiver = state.receiver.take();
        inbox.publish(&state);
        drop(state);
        inbox.after(receiver, &shed);
        Poll::Ready(())
    }

    /// Handles a time-out: the weakest wave is shed for this one. After that no emitter waits until the inbox has
    /// drained to half, unless it has already. If the emitter waited only because stronger waves overtook it, the
    /// others keep waiting.
    fn give_up(mut self) {
        let (inbox, mut shed) = (self.inbox, Shed::new());
        let Some(place) = self.place.take() else { return };
        let mut state = inbox.state.lock();
        state.admission.leave(place);
        inbox.settle_prefetched(&mut state);
        let is_overtaken_by_stronger = state.admission.is_overtaken_by_stronger(place);
        let called = match is_overtaken_by_stronger {
            true => Vec::new(),
            false => {
                state.timed_out = !inbox.is_half_empty(&state);
                // The emitters waiting beside it need not wait any longer either.
                inbox.call_all(&mut state)
            }
        };
        inbox.update_waiting_since(&mut state);
        // Never handed back.
        let _ = inbox.put(&mut state, self.wave.clone(), Offer::Unwaited, &mut shed);
        let receiver = state.receiver.take();
        inbox.publish(&state);
        drop(state);
        wake(called);
        inbox.after(receiver, &shed);
    }
}

impl Drop for WaitingEmitter<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = self.inbox.state.lock();
        let was_called = state.admission.leave(place).is_none();
        self.inbox.update_waiting_since(&mut state);
        // It was called but did not come, so its place goes to the next.
        let called = if was_called { self.inbox.call_emitters(&mut state, true) } else { Vec::new() };
        drop(state);
        wake(called);
    }
}

impl Inbox {
    /// Updates the fast path's state if no emitter waits any more.
    fn update_waiting_since(&self, state: &mut InboxState) {
        if state.admission.none_wait() {
            state.waiting_since = None;
            self.set_bounds(state);
        }
    }
}

impl Inbox {
    /// Computes the bounds of the fast path, [`Inbox::takes_at_once`].
    pub(super) fn set_bounds(&self, state: &mut InboxState) {
        let is_open = !state.closed && state.admission.none_wait();
        for (bounds, level) in state.at_once.iter_mut().zip([0, u8::MAX]) {
            let (waves, bytes) = self.bounds_of(level);
            *bounds = if is_open { (state.ahead.min(waves), bytes) } else { (0, 0) };
        }
    }

    /// The waves and bytes that this level may use if its emitters wait; otherwise all.
    pub(super) fn bounds_of(&self, level: u8) -> (usize, usize) {
        let (waves, bytes) = (self.max_waves(), self.max_bytes());
        match self.options.when_full {
            WhenFull::Shed => (waves, bytes),
            WhenFull::Wait { .. } => (waves - kept(waves, level), bytes - kept(bytes, level)),
        }
    }

    /// Whether there is room for a wave of this level and weight, with no waiting emitter ahead of it, outside of the
    /// room that it leaves free. Checks the prefetch only if there seems to be no room.
    pub(super) fn admits(&self, state: &mut InboxState, place: QueuePosition, weight: usize) -> bool {
        let level = place.level;
        !state.admission.is_before(place)
            && (self.has_room(state, level, weight, (0, 0))
                || (state.prefetched > 0 && {
                    self.settle_prefetched(state);
                    self.has_room(state, level, weight, (0, 0))
                }))
    }

    /// Whether there is room for a wave of this level and weight behind others that come first: their number and weight.
    pub(super) fn has_room(
        &self,
        state: &InboxState,
        level: u8,
        weight: usize,
        (coming, coming_bytes): (usize, usize),
    ) -> bool {
        let (waves, bytes) = self.bounds_of(level);
        let (len, used) = (state.len() + coming, state.bytes + coming_bytes);
        // Alone, a wave may reach into the part that is kept, or a large one would never be admitted.
        len < waves && (used + weight <= bytes || (len == 0 && weight <= self.max_bytes()))
    }

    /// Whether the emitters are too far ahead for this wave. A wave stronger than something queued need not wait.
    pub(super) fn is_ahead(state: &InboxState, level: u8) -> bool {
        state.len() >= state.ahead && state.levels.weakest().is_some_and(|weakest| level >= weakest)
    }

    pub(super) fn makes_wait(&self, state: &InboxState) -> bool {
        self.options.when_full != WhenFull::Shed && !state.timed_out
    }

    /// How many waves of this weight the fast path would take now.
    pub fn room_at_once(&self, wave: &Wave) -> usize {
        let mut state = self.state.lock();
        self.settle_prefetched(&mut state);
        let (waves, bytes) = state.at_once[usize::from(is_weak(wave.signal().level()))];
        waves.saturating_sub(state.len()).min(bytes.saturating_sub(state.bytes) / wave.weight())
    }

    /// Whether this wave's emitter would not have to wait now. Waves that are refused anyway need no room.
    pub(crate) fn has_room_for(&self, wave: &Wave) -> bool {
        let (level, weight) = (wave.signal().level(), wave.weight());
        let mut state = self.state.lock();
        self.takes_at_once(&state, wave, level, weight)
            || state.closed
            || weight > self.max_bytes()
            || !wave.audible_at(Moment::now, self.floor())
            || !self.makes_wait(&state)
            || self.admits(&mut state, QueuePosition::of_newcomer(level), weight)
    }

    /// The number of waves that may be queued before an emitter of this level waits.
    pub(super) fn allowed(&self, state: &InboxState, level: u8) -> usize {
        let (most, _) = self.bounds_of(level);
        // A wave that overtakes others need not wait behind them.
        if state.levels.weakest().is_some_and(|weakest| level < weakest) {
            most
        } else {
            most.min(state.ahead)
        }
    }
}

impl Inbox {
    /// Takes a wave if that neither sheds anything nor makes its emitter wait. Otherwise hands it back.
    pub(crate) fn offer_if_it_takes(&self, wave: Wave) -> Result<(), Wave> {
        let (level, weight) = (wave.signal().level(), wave.weight());
        let mut state = self.state.lock();
        if !self.keeps(&mut state, &wave, level, weight) {
            return Err(wave);
        }
        self.push_and_wake(state, wave, level, weight);
        Ok(())
    }

    /// Whether a wave could be queued now without shedding anything or making its emitter wait.
    pub(crate) fn takes(&self, wave: &Wave) -> bool {
        let (level, weight) = (wave.signal().level(), wave.weight());
        self.keeps(&mut self.state.lock(), wave, level, weight)
    }

    fn keeps(&self, state: &mut InboxState, wave: &Wave, level: u8, weight: usize) -> bool {
        self.takes_at_once(state, wave, level, weight)
            || (!state.closed
                && wave.audible_at(Moment::now, self.floor())
                && match self.makes_wait(state) {
                    true => self.admits(state, QueuePosition::of_newcomer(level), weight),
                    false => self.fits(state, level, weight),
                })
    }

    /// Whether a wave of this weight would be within the bounds. Looks at the prefetch only if it seems that it would not.
    fn fits(&self, state: &mut InboxState, level: u8, weight: usize) -> bool {
        let (waves, bytes) = self.bounds_of(level);
        let fits = |state: &InboxState| state.len() < waves && state.bytes + weight <= bytes;
        fits(state)
            || (state.prefetched > 0 && {
                self.settle_prefetched(state);
                fits(state)
            })
    }
}

impl Inbox {
    /// Offers waves under a single lock. Hands back the first wave that would have to wait for room, and all waves
    /// after it. Hands nothing back if the options say that a full inbox sheds at once, or if the receiver is stuck.
    pub(crate) fn offer_while_room(&self, waves: impl IntoIterator<Item = Wave>) -> VecDeque<Wave> {
        let (mut waves, mut rest, mut shed) = (waves.into_iter(), VecDeque::new(), Shed::new());
        let mut state = self.state.lock();
        for wave in waves.by_ref() {
            let (level, weight) = (wave.signal().level(), wave.weight());
            if self.takes_at_once(&state, &wave, level, weight) {
                self.push(&mut state, wave, level, weight);
            } else if let Err(wave) = self.put(&mut state, wave, Offer::IfRoom, &mut shed) {
                rest.push_back(wave);
                break;
            }
        }
        let waker = state.receiver.take();
        self.publish(&state);
        drop(state);
        self.after(waker, &shed);
        if !rest.is_empty() {
            rest.extend(waves);
        }
        rest
    }

    /// Offers waves in order, and waits for room where necessary, for each wave at most as long as the options allow.
    /// Waves that were offered are removed from `waves`.
    ///
    /// Cancel safety: if cancelled while waiting, the waves not offered yet are still in `waves`.
    pub(crate) async fn offer_all_patiently(&self, waves: &mut VecDeque<Wave>) {
        while let Some(first) = waves.front() {
            self.offer_patiently(first).await;
            waves.pop_front();
            *waves = self.offer_while_room(std::mem::take(waves));
        }
    }
}

impl Inbox {
    /// The configured floor.
    #[inline]
    pub(crate) fn floor(&self) -> Floor {
        self.live.floor()
    }

    /// The capacity in waves.
    #[inline]
    pub(super) fn max_waves(&self) -> usize {
        self.live.max_waves.load(Ordering::Relaxed)
    }

    /// The capacity in bytes.
    #[inline]
    pub(super) fn max_bytes(&self) -> usize {
        self.live.max_bytes.load(Ordering::Relaxed)
    }
}

impl Adjustable for Inbox {
    fn set_floor(&self, floor: Floor) {
        self.live.set_floor(floor);
    }

    fn resize(&self, max_waves: usize, max_bytes: usize) -> Vec<Waker> {
        let mut state = self.state.lock();
        let was_all = state.ahead_unheld == self.max_waves();
        self.live.max_waves.store(max_waves, Ordering::Relaxed);
        self.live.max_bytes.store(max_bytes, Ordering::Relaxed);
        // A bound that an outbox has set for running ahead stays, within the capacity.
        state.ahead_unheld = if was_all { max_waves } else { state.ahead_unheld.min(max_waves) };
        // A prefetch that is larger than half the inbox would delay evictions.
        self.return_prefetched(&mut state);
        self.set_ahead(&mut state);
        self.publish(&state);
        // Also those that wait although their wave could never fit: they see the new bounds when they try again.
        self.call_all(&mut state)
    }
}
