//! Emitters that wait for room: the strongest is let in first, and those of one level in turn.
//!
//! An emitter is woken when there is a place for it and tries again; so several are woken at once, and none for
//! nothing. Woken for equal waves it waits until it is worth while, so that a fast receiver and a fast emitter do not pass
//! the processor back and forth for each wave.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::admission::QueuePosition;
use super::{Inbox, InboxState, Offer, Shed, WhenFull};
use crate::clock::Moment;
use crate::wave::Wave;

/// Emitters that wait are woken when this much room is there (or half the inbox).
const ROOM_WORTH_WAKING_FOR: usize = 512;

/// Emitters that have waited this long are woken for any room at all.
pub(super) const LONG_WAIT: Duration = Duration::from_millis(1);

impl Inbox {
    /// Offers a wave and waits for room if need be, at most as long as the options say.
    ///
    /// Cancel safety: cancelled while it waits, the wave was not offered; the caller still has its clone.
    pub(crate) async fn offer_patiently(&self, wave: &Wave) {
        let WhenFull::Wait { patience } = self.options.when_full else {
            let _ = self.offer(wave.clone(), Offer::Now);
            return;
        };
        let mut visitor = Visitor { inbox: self, wave, place: None };
        // Room is looked for before the time: who is let in at its last moment has not lost its patience.
        let let_in = tokio::time::timeout(patience, std::future::poll_fn(|cx| visitor.poll(cx))).await;
        if let_in.is_err() {
            visitor.give_up();
        }
    }

    /// Calls emitters that wait, the strongest first, if there is room for them and it is worth while or urgent. They are
    /// to be woken without the lock.
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
        let worth_it = room >= ROOM_WORTH_WAKING_FOR.min(state.ahead.div_ceil(2))
            && state.bytes <= self.options.max_bytes / 2;
        let all = is_urgent || worth_it || len == 0 || since.elapsed() >= LONG_WAIT;
        let mut called = Vec::new();
        while let Some(next) = state.admission.first()
            // Stronger than something that is queued, it would be received before that.
            && (all || state.levels.weakest().is_some_and(|weakest| next.level < weakest))
            && len + called.len() < self.allowed(state, next.level)
        {
            called.extend(state.admission.call_first());
        }
        if !called.is_empty() {
            state.waiting_since = (!state.admission.nobody_waits()).then(Moment::now);
            self.set_bounds(state);
        }
        called
    }

    /// Wakes all that wait, whether there is room or not.
    pub(super) fn call_all(&self, state: &mut InboxState) -> Vec<Waker> {
        state.waiting_since = None;
        let called = state.admission.call_all();
        self.set_bounds(state);
        called
    }

    /// Whether emitters have every reason to be patient.
    pub(super) fn is_half_empty(&self, state: &InboxState) -> bool {
        state.len() <= state.ahead / 2 && state.bytes <= self.options.max_bytes / 2
    }
}

pub(super) fn wake(called: Vec<Waker>) {
    called.into_iter().for_each(Waker::wake);
}

/// An emitter that waits for room. Dropped, it takes itself out.
struct Visitor<'a> {
    inbox: &'a Inbox,
    wave: &'a Wave,
    /// Kept until it is let in, also while it is called and has not come yet.
    place: Option<QueuePosition>,
}

impl Visitor<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let (inbox, mut shed) = (self.inbox, Shed::new());
        let mut state = inbox.state.lock();
        if self.place.is_some_and(|place| state.admission.waits_still(place, cx.waker())) {
            return Poll::Pending;
        }
        // Called, it comes before those who wait behind it.
        let offer = self.place.map_or(Offer::IfRoom, Offer::Called);
        if inbox.put(&mut state, self.wave.clone(), offer, &mut shed).is_err() {
            let level = self.wave.signal().level();
            let place = *self.place.get_or_insert_with(|| state.admission.place(level));
            state.admission.wait(place, cx.waker());
            state.waiting_since.get_or_insert_with(Moment::now);
            // From now on the receiver comes by for every wave and sees who waits.
            inbox.return_prefetched(&mut state);
            inbox.set_bounds(&mut state);
            inbox.publish(&state);
            return Poll::Pending;
        }
        self.place = None;
        inbox.nobody_waits_any_more(&mut state);
        let receiver = state.receiver.take();
        inbox.publish(&state);
        drop(state);
        inbox.after(receiver, &shed);
        Poll::Ready(())
    }

    /// Its patience is exhausted: the weakest wave is shed for it. From then on nobody waits until the inbox is half
    /// empty, if it is not that already; unless it waited only because stronger waves passed it, which says nothing of
    /// the patience of others and leaves the room that is kept for the strong as it is.
    fn give_up(mut self) {
        let (inbox, mut shed) = (self.inbox, Shed::new());
        let Some(place) = self.place.take() else { return };
        let mut state = inbox.state.lock();
        state.admission.leave(place);
        inbox.settle_prefetched(&mut state);
        let is_passed = state.admission.is_passed(place);
        let called = match is_passed {
            true => Vec::new(),
            false => {
                state.impatient = !inbox.is_half_empty(&state);
                // Those who wait beside it need not wait any longer either.
                inbox.call_all(&mut state)
            }
        };
        inbox.nobody_waits_any_more(&mut state);
        let offer = if is_passed { Offer::Passed } else { Offer::Unwaited };
        // Neither is handed back.
        let _ = inbox.put(&mut state, self.wave.clone(), offer, &mut shed);
        let receiver = state.receiver.take();
        inbox.publish(&state);
        drop(state);
        wake(called);
        inbox.after(receiver, &shed);
    }
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = self.inbox.state.lock();
        let was_called = state.admission.leave(place).is_none();
        self.inbox.nobody_waits_any_more(&mut state);
        // Called and not coming: the next one gets its place.
        let called = if was_called { self.inbox.call_emitters(&mut state, true) } else { Vec::new() };
        drop(state);
        wake(called);
    }
}

impl Inbox {
    /// Notes that nobody waits, if that is so.
    fn nobody_waits_any_more(&self, state: &mut InboxState) {
        if state.admission.nobody_waits() {
            state.waiting_since = None;
            self.set_bounds(state);
        }
    }
}
