//! Offers to one of several inboxes: what the router asks of the members of a group, one after the other.

use super::{Inbox, State};
use crate::clock::Moment;
use crate::wave::Wave;

impl Inbox {
    /// Takes a wave that it can queue without shedding anything; else hands it back, and nothing has changed.
    pub(crate) fn offer_if_it_takes(&self, wave: Wave) -> Result<(), Wave> {
        let weight = wave.weight();
        let mut state = self.state.lock();
        if !self.keeps(&mut state, &wave, weight) {
            return Err(wave);
        }
        self.push(&mut state, wave, weight);
        let waker = state.receiver.take();
        self.publish(&state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Whether it could queue a wave now without shedding anything.
    pub(crate) fn takes(&self, wave: &Wave) -> bool {
        let weight = wave.weight();
        self.keeps(&mut self.state.lock(), wave, weight)
    }

    fn keeps(&self, state: &mut State, wave: &Wave, weight: usize) -> bool {
        !state.closed && self.fits(state, weight) && wave.audible_at(Moment::now, self.options.floor)
    }
}
