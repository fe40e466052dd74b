//! Waiting emitters: the strongest is admitted first, and the sources of one level in turn.
//!
//! An emitter is woken when there is room for it and then tries again, so several are woken at once and none in vain.
//! For waves of equal strength the wake-up is delayed until enough room is free, so that a fast receiver and a fast
//! emitter do not alternate on the processor for each wave.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::admission::QueuePosition;
use super::{Inbox, InboxState, Offer, Shed, WhenFull};
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
