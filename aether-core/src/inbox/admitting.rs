//! Whether there is room for a wave, given the waiting emitters and the room reserved for stronger waves.

use super::admission::{QueuePosition, kept_from_weak, reserve_of};
use super::{Inbox, InboxState, WhenFull};
use crate::clock::Moment;
use crate::wave::Wave;

impl Inbox {
    /// Computes the bounds of the fast path, [`Inbox::takes_at_once`].
    pub(super) fn set_bounds(&self, state: &mut InboxState) {
        let (waves, bytes) = (self.max_waves(), self.max_bytes());
        let (kept_waves, kept_bytes) = match self.options.when_full {
            WhenFull::Shed => (0, 0),
            WhenFull::Wait { .. } => [waves, bytes].map(|total| self.most_kept(state, total)).into(),
        };
        let is_open = !state.closed && state.admission.none_wait();
        state.waves_at_once = if is_open { state.ahead.min(waves - kept_waves) } else { 0 };
        state.bytes_at_once = bytes - kept_bytes;
    }

    /// What the weakest of the waves that were offered recently leave to stronger ones.
    fn most_kept(&self, state: &InboxState, total: usize) -> usize {
        let by_rank = if state.admission.has_several_levels() { reserve_of(total) } else { 0 };
        let from_weak = if state.admission.has_weak() { kept_from_weak(total, u8::MAX) } else { 0 };
        by_rank.max(from_weak)
    }

    /// Notes that a wave of this level was offered, and forgets those that are offered no longer.
    pub(super) fn note_level(&self, state: &mut InboxState, level: u8) {
        if self.options.when_full != WhenFull::Shed && state.admission.has_several_levels() {
            state.admission.advance_to(Moment::now());
        }
        state.admission.record_level(level);
        self.set_bounds(state);
    }

    /// Whether there is room for a wave of this level and weight, with no waiting emitter ahead of it, outside of the
    /// room reserved for stronger waves. Checks the prefetch only if there seems to be no room.
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
        let (max_waves, max_bytes) = (self.max_waves(), self.max_bytes());
        let waves = max_waves - state.admission.reserved(max_waves, level);
        // One wave may reach into the part that is kept, or a large one would never be admitted.
        let bytes = max_bytes - state.admission.reserved(max_bytes, level);
        let weak_bytes = max_bytes - kept_from_weak(max_bytes, level);
        let (len, used) = (state.len() + coming, state.bytes + coming_bytes);
        len < waves && used < bytes && (used + weight <= weak_bytes || (len == 0 && weight <= max_bytes))
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
        let weight = wave.weight();
        let mut state = self.state.lock();
        self.settle_prefetched(&mut state);
        let waves = state.waves_at_once.saturating_sub(state.len());
        waves.min(state.bytes_at_once.saturating_sub(state.bytes) / weight)
    }

    /// Whether this wave's emitter would not have to wait now. Waves that are refused anyway need no room.
    pub(crate) fn has_room_for(&self, wave: &Wave) -> bool {
        let (level, weight) = (wave.signal().level(), wave.weight());
        let mut state = self.state.lock();
        self.takes_at_once(&state, wave, level, weight)
            || state.closed
            || weight > self.max_bytes()
            || !wave.audible_at(Moment::now, self.floor())
            || {
                self.note_level(&mut state, level);
                !self.makes_wait(&state) || self.admits(&mut state, QueuePosition::of_newcomer(level), weight)
            }
    }

    /// The number of waves that may be queued before an emitter of this level waits.
    pub(super) fn allowed(&self, state: &InboxState, level: u8) -> usize {
        let most = self.max_waves();
        let most = most - state.admission.reserved(most, level);
        // A wave that overtakes others need not wait behind them.
        if state.levels.weakest().is_some_and(|weakest| level < weakest) {
            most
        } else {
            most.min(state.ahead)
        }
    }
}
