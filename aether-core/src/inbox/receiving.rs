//! The receiver's side of an inbox: taking waves out, one by one, by pattern, or many at once.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::ledger::{Ledger, ShedReason};
use super::queue::{Levels, PREFETCH, Popped, Prefetch};
use super::waiting::wake;
use super::{Inbox, InboxState, ServeOrder, Shed};
use crate::clock::Moment;
use crate::sync::MutexGuard;
use crate::wave::Wave;

impl Inbox {
    /// The next wave, or `None` when the inbox is closed and empty. Only one task at a time may poll.
    #[inline]
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Option<Wave>> {
        match self.take_at_once() {
            Some(wave) => Poll::Ready(Some(wave)),
            None => self.poll_with_care(Some(cx.waker())),
        }
    }

    /// The next wave if one is queued. It registers no waker, and replaces none.
    pub(crate) fn try_receive(&self) -> Poll<Option<Wave>> {
        match self.take_at_once() {
            Some(wave) => Poll::Ready(Some(wave)),
            None => self.poll_with_care(None),
        }
    }

    /// Appends the next waves, at least one and at most `max`, in the order of receiving, with each lock taken once. Zero
    /// when the inbox is closed and empty. Only one task at a time may poll.
    pub(crate) fn poll_receive_many(
        &self,
        cx: &mut Context<'_>,
        into: &mut Vec<Wave>,
        max: usize,
    ) -> Poll<usize> {
        let (before, mut shed) = (into.len(), Shed::new());
        self.take_all_prefetched(into, max, &mut shed);
        let taken = into.len() - before;
        let polled = match taken < max {
            true => self.poll_take((taken == 0).then(|| cx.waker()), &mut shed, |inbox, state, shed| {
                // What is left of the prefetch was overtaken by a stronger wave, or the prefetch is not counted yet.
                inbox.return_prefetched(state);
                inbox.take_all(state, into, max - taken, shed);
                (into.len() > before).then_some(())
            }),
            false => Poll::Ready(Some(())),
        };
        self.after(None, &shed);
        polled.map(|_| into.len() - before)
    }

    /// Appends at most `max` prefetched waves, up to the first that a stronger one has overtaken.
    fn take_all_prefetched(&self, into: &mut Vec<Wave>, max: usize, shed: &mut Shed) {
        // Only the receiver takes a prefetch, so this load cannot miss one.
        if !self.has_prefetched.load(Ordering::Relaxed) {
            return;
        }
        let mut prefetch = self.prefetch.lock();
        let next = || self.next_prefetched(&mut prefetch, || self.occupied.load(Ordering::Acquire), shed);
        into.extend(std::iter::from_fn(next).take(max));
    }

    /// Appends at most `max` waves of the levels.
    fn take_all(&self, state: &mut InboxState, into: &mut Vec<Wave>, max: usize, shed: &mut Shed) {
        let end = into.len() + max;
        let InboxState { levels, bytes, ledger, .. } = state;
        while into.len() < end {
            let left = end - into.len();
            match self.options.order {
                ServeOrder::Strength => {
                    let Some(level) = levels.strongest() else { break };
                    levels.pop_heads(level, left, |popped| {
                        into.extend(self.settle_as(bytes, ledger, popped, shed));
                    });
                }
                ServeOrder::Arrival => {
                    let Some(popped) = levels.pop_oldest() else { break };
                    into.extend(self.settle_as(bytes, ledger, popped, shed));
                }
            }
        }
    }

    /// The fast path: the next wave of the prefetch, or of the levels if the prefetch is empty or a stronger wave has
    /// overtaken it, provided the wave is not too late.
    #[inline]
    fn take_at_once(&self) -> Option<Wave> {
        // Only the receiver takes a prefetch, so this load cannot miss one.
        if !self.has_prefetched.load(Ordering::Relaxed) {
            return self.take_from_levels(None);
        }
        let mut prefetch = self.prefetch.lock();
        let Some(next) = prefetch.next() else {
            self.has_prefetched.store(false, Ordering::Relaxed);
            drop(prefetch);
            return self.take_from_levels(None);
        };
        let level = next.level;
        if self.is_overtaken(level, || self.occupied.load(Ordering::Acquire)) {
            drop(prefetch);
            return self.take_from_levels(Some(level));
        }
        if self.too_late(next.arrival, &next.item).is_some() {
            return None;
        }
        prefetch.take_next(None)
    }

    /// The next wave of the levels, and a prefetch of those that follow if there is none; or the wave that has
    /// `overtaken` a prefetch that continues at this level. `None` if the slow path is needed or the levels are empty.
    #[inline(never)]
    fn take_from_levels(&self, overtaken: Option<u8>) -> Option<Wave> {
        if self.options.order != ServeOrder::Strength {
            return None;
        }
        let mut state = self.state.lock();
        if overtaken.is_none() && state.prefetched > 0 {
            // The prefetch was found empty; the waves taken from it are not counted yet.
            self.settle_prefetched(&mut state);
        }
        // An emitter may have put the prefetch back meanwhile. A wave stronger than the prefetch is next in either
        // case.
        if overtaken.is_some_and(|prefetch| !self.is_overtaken(prefetch, || state.levels.occupied())) {
            return None;
        }
        let Popped { level, arrival, item: wave } = state.levels.pop_strongest()?;
        if self.too_late(arrival, &wave).is_some() {
            state.levels.put_back(Popped { level, arrival, item: wave });
            return None;
        }
        state.bytes -= wave.weight();
        state.ledger.delivered += 1;
        if overtaken.is_none() {
            self.prefetch(&mut state, level);
        }
        self.end_visit(state);
        Some(wave)
    }

    /// Whether the levels hold a wave stronger than a prefetch that continues at this level.
    fn is_overtaken(&self, level: u8, occupied: impl FnOnce() -> u64) -> bool {
        let stronger = (1_u64 << level) - 1;
        self.options.order == ServeOrder::Strength && occupied() & stronger != 0
    }

    /// Publishes the receiver's changes, unlocks, and wakes waiting emitters if there is room for them.
    pub(super) fn end_visit(&self, mut state: MutexGuard<'_, InboxState>) {
        if state.timed_out && self.is_half_empty(&state) {
            state.timed_out = false;
        }
        self.publish(&state);
        if state.waiting_since.is_some() {
            let called = self.call_emitters(&mut state, false);
            drop(state);
            wake(called);
        }
    }

    #[inline(never)]
    fn poll_with_care(&self, waker: Option<&Waker>) -> Poll<Option<Wave>> {
        let mut shed = Shed::new();
        let prefetched = self.take_prefetched(|| self.occupied.load(Ordering::Acquire), &mut shed);
        let polled = match prefetched {
            Some(wave) => Poll::Ready(Some(wave)),
            None => self.poll_take(waker, &mut shed, |inbox, state, shed| inbox.take_next(state, shed)),
        };
        self.after(None, &shed);
        polled
    }

    /// The next wave of the prefetch, unless the levels hold a stronger one.
    fn take_prefetched(&self, occupied: impl Fn() -> u64, shed: &mut Shed) -> Option<Wave> {
        // Only the receiver takes a prefetch, so this load cannot miss one.
        if !self.has_prefetched.load(Ordering::Relaxed) {
            return None;
        }
        self.next_prefetched(&mut self.prefetch.lock(), occupied, shed)
    }

    fn next_prefetched(
        &self,
        prefetch: &mut Prefetch,
        occupied: impl Fn() -> u64,
        shed: &mut Shed,
    ) -> Option<Wave> {
        loop {
            let next = prefetch.next()?;
            if self.is_overtaken(next.level, &occupied) {
                return None;
            }
            let too_late = self.too_late(next.arrival, &next.item);
            let wave = prefetch.take_next(too_late)?;
            match too_late {
                None => return Some(wave),
                Some(reason) => shed.push((wave, reason)),
            }
        }
    }

    /// Takes the next wave: a prefetched one, or else one of the levels, with a prefetch of those that follow.
    fn take_next(&self, state: &mut InboxState, shed: &mut Shed) -> Option<Wave> {
        if state.prefetched > 0 {
            self.settle_prefetched(state);
        }
        loop {
            // A prefetch that a stronger wave has overtaken is still there.
            if state.prefetched > 0
                && let Some(wave) = self.take_prefetched(|| state.levels.occupied(), shed)
            {
                return Some(wave);
            }
            let popped = self.pop_next(&mut state.levels)?;
            let level = popped.level;
            if let Some(wave) = self.settle(state, popped, shed) {
                self.prefetch(state, level);
                return Some(wave);
            }
        }
    }

    /// Prefetches the waves that follow one of this level. Near capacity they stay in the levels, where they can be
    /// evicted. While an emitter waits (for bytes, say), nothing is prefetched, so that the receiver takes the lock for
    /// every wave and sees the waiting emitters. Where sources take turns, a source that has just emitted its first wave
    /// would have to wait behind a prefetch.
    fn prefetch(&self, state: &mut InboxState, level: u8) {
        let near_bound = state.levels.len() > self.max_waves() / 2;
        if state.levels.len() == 0
            || near_bound
            || state.waiting_since.is_some()
            || state.levels.takes_turns(level)
        {
            return;
        }
        let mut prefetch = self.prefetch.lock();
        if prefetch.len() > 0 {
            return;
        }
        match self.options.order {
            ServeOrder::Strength => state.levels.pop_heads(level, PREFETCH, |popped| prefetch.add(popped)),
            ServeOrder::Arrival => {
                let oldest = std::iter::from_fn(|| state.levels.pop_oldest());
                oldest.take(PREFETCH).for_each(|popped| prefetch.add(popped));
            }
        }
        state.prefetched = prefetch.len();
        self.has_prefetched.store(state.prefetched > 0, Ordering::Relaxed);
    }

    pub(super) fn pop_next(&self, levels: &mut Levels<Wave>) -> Option<Popped<Wave>> {
        match self.options.order {
            ServeOrder::Strength => levels.pop_strongest(),
            ServeOrder::Arrival => levels.pop_oldest(),
        }
    }

    fn pop_where(
        &self,
        levels: &mut Levels<Wave>,
        after: u64,
        wanted: impl FnMut(&Wave) -> bool,
    ) -> Option<Popped<Wave>> {
        match self.options.order {
            ServeOrder::Strength => levels.pop_where(after, wanted),
            ServeOrder::Arrival => levels.pop_oldest_where(after, wanted),
        }
    }

    /// Counts a wave that left the levels as delivered, or as lost if it is too late.
    pub(super) fn settle(
        &self,
        state: &mut InboxState,
        popped: Popped<Wave>,
        shed: &mut Shed,
    ) -> Option<Wave> {
        self.settle_as(&mut state.bytes, &mut state.ledger, popped, shed)
    }

    #[inline]
    fn settle_as(
        &self,
        bytes: &mut usize,
        ledger: &mut Ledger,
        popped: Popped<Wave>,
        shed: &mut Shed,
    ) -> Option<Wave> {
        let Popped { arrival, item: wave, .. } = popped;
        *bytes -= wave.weight();
        match self.too_late(arrival, &wave) {
            None => {
                ledger.delivered += 1;
                Some(wave)
            }
            Some(reason) => {
                ledger.count_loss(reason);
                shed.push((wave, reason));
                None
            }
        }
    }

    /// The next wave that `wanted` accepts, in the order of receiving; the others stay queued. `seen` marks how far
    /// earlier polls of the same wait have looked; start with 0.
    pub(crate) fn poll_receive_where(
        &self,
        cx: &mut Context<'_>,
        seen: &mut u64,
        mut wanted: impl FnMut(&Wave) -> bool,
    ) -> Poll<Option<Wave>> {
        let mut shed = Shed::new();
        let polled = self.poll_take(Some(cx.waker()), &mut shed, |inbox, state, shed| {
            inbox.return_prefetched(state);
            loop {
                match inbox.pop_where(&mut state.levels, *seen, &mut wanted) {
                    Some(popped) => {
                        if let Some(wave) = inbox.settle(state, popped, shed) {
                            return Some(wave);
                        }
                    }
                    None => {
                        *seen = state.levels.last_arrival();
                        return None;
                    }
                }
            }
        });
        self.after(None, &shed);
        polled
    }

    fn poll_take<T>(
        &self,
        waker: Option<&Waker>,
        shed: &mut Shed,
        take: impl FnOnce(&Self, &mut InboxState, &mut Shed) -> Option<T>,
    ) -> Poll<Option<T>> {
        let mut state = self.state.lock();
        let taken = take(self, &mut state, shed);
        let polled = match taken {
            Some(taken) => Poll::Ready(Some(taken)),
            None if state.closed => Poll::Ready(None),
            None => {
                if let Some(waker) = waker
                    && !state.receiver.as_ref().is_some_and(|other| other.will_wake(waker))
                {
                    state.receiver = Some(waker.clone());
                }
                Poll::Pending
            }
        };
        self.end_visit(state);
        polled
    }

    #[inline]
    fn too_late(&self, arrival: u64, wave: &Wave) -> Option<ShedReason> {
        // Most inboxes have neither a cap nor a floor.
        if self.options.sojourn_cap.is_none() && self.floor().is_open() {
            return None;
        }
        self.too_late_by_options(arrival, wave)
    }

    #[inline(never)]
    fn too_late_by_options(&self, arrival: u64, wave: &Wave) -> Option<ShedReason> {
        if let Some(cap) = self.options.sojourn_cap
            && u128::from(self.nanos_since_made().saturating_sub(arrival)) > cap.as_nanos()
        {
            return Some(ShedReason::Sojourn);
        }
        (!wave.audible_at(Moment::now, self.floor())).then_some(ShedReason::Expired)
    }
}
