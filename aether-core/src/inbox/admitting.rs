//! Whether there is room for a wave, given the waiting emitters and the room that weak waves leave free.

use super::admission::{QueuePosition, is_weak, kept};
use super::{Inbox, InboxState, WhenFull};
use crate::clock::Moment;
use crate::wave::Wave;

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
