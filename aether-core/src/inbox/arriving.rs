//! Waves that a network brings: offered as long as there is room, so that whoever brings them can wait with the rest.

use std::collections::VecDeque;

use super::{Inbox, Offer, Shed};
use crate::wave::Wave;

impl Inbox {
    /// Offers waves with one lock for all, and hands back the first that would have to wait for room and all that follow
    /// it. Nothing is handed back if the options say that a full inbox sheds at once, or if the receiver is stuck.
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

    /// Offers waves in their order, and waits for room where that is needed: for each wave at most as long as the options
    /// say. What was offered is no longer in `waves`.
    ///
    /// Cancel safety: cancelled while it waits, what was not offered is still in `waves`.
    pub(crate) async fn offer_all_patiently(&self, waves: &mut VecDeque<Wave>) {
        while let Some(first) = waves.front() {
            self.offer_patiently(first).await;
            waves.pop_front();
            *waves = self.offer_while_room(std::mem::take(waves));
        }
    }
}
