//! Offers to one of several inboxes, as the router makes them to the members of a group in turn.

use super::admission::QueuePosition;
use super::{Inbox, InboxState};
use crate::clock::Moment;
use crate::wave::Wave;

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
