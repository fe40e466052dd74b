//! Whether there is room for a wave: behind those who wait, and without what is kept for stronger ones.

use super::door::{Place, kept_of};
use super::{Inbox, State, WhenFull};
use crate::clock::Moment;
use crate::wave::Wave;

impl Inbox {
    /// Works out below which bounds [`Inbox::takes_at_once`] need not look any closer.
    pub(super) fn set_bounds(&self, state: &mut State) {
        let (waves, bytes) = (self.options.max_waves, self.options.max_bytes);
        let (kept_waves, kept_bytes) = match self.options.when_full {
            WhenFull::Wait { .. } if state.door.tells_apart() => (kept_of(waves), kept_of(bytes)),
            _ => (0, 0),
        };
        let is_open = !state.closed && state.door.nobody_waits();
        state.waves_at_once = if is_open { state.ahead.min(waves - kept_waves) } else { 0 };
        state.bytes_at_once = bytes - kept_bytes;
    }

    /// Notes that a wave of this level was offered, and forgets those that are offered no longer.
    pub(super) fn note_level(&self, state: &mut State, level: u8) {
        if self.options.when_full != WhenFull::Shed && state.door.tells_apart() {
            state.door.turn_to(Moment::now());
        }
        state.door.see(level);
        self.set_bounds(state);
    }

    /// Whether there is room for a wave of this level and weight that nobody who waits comes before, and that is not kept
    /// for stronger ones. Looks at the hand only if it seems that there is not.
    pub(super) fn admits(&self, state: &mut State, place: Place, weight: usize) -> bool {
        let (max_waves, max_bytes) = (self.options.max_waves, self.options.max_bytes);
        let waves = max_waves - state.door.kept(max_waves, place.level);
        // One wave may reach into the part that is kept, or a large one would never be admitted.
        let bytes = max_bytes - state.door.kept(max_bytes, place.level);
        let admits =
            |state: &State| state.len() < waves && state.bytes < bytes && state.bytes + weight <= max_bytes;
        !state.door.is_before(place)
            && (admits(state)
                || (state.in_hand > 0 && {
                    self.look_at_hand(state);
                    admits(state)
                }))
    }

    /// Whether the emitters are so far ahead that this wave has to wait: behind none but weaker ones it need not.
    pub(super) fn is_ahead(state: &State, level: u8) -> bool {
        state.len() >= state.ahead && state.levels.weakest().is_some_and(|weakest| level >= weakest)
    }

    pub(super) fn makes_wait(&self, state: &State) -> bool {
        self.options.when_full != WhenFull::Shed && !state.impatient
    }

    /// Whether an emitter of this wave would not have to wait now. Waves that are refused anyway need no room.
    pub(crate) fn has_room_for(&self, wave: &Wave) -> bool {
        let (level, weight) = (wave.signal().level(), wave.weight());
        let mut state = self.state.lock();
        self.takes_at_once(&state, wave, level, weight)
            || state.closed
            || weight > self.options.max_bytes
            || !wave.audible_at(Moment::now, self.options.floor)
            || {
                self.note_level(&mut state, level);
                !self.makes_wait(&state) || self.admits(&mut state, Place::of_newcomer(level), weight)
            }
    }

    /// How many waves may be queued before an emitter of this level waits.
    pub(super) fn allowed(&self, state: &State, level: u8) -> usize {
        let most = self.options.max_waves;
        let most = most - state.door.kept(most, level);
        // What passes others need not stay behind with them.
        if state.levels.weakest().is_some_and(|weakest| level < weakest) {
            most
        } else {
            most.min(state.ahead)
        }
    }
}
