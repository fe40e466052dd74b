//! Waves that arrive from a network. They are offered as long as there is room, and the delivering task can wait with
//! the rest.

use std::collections::VecDeque;

use super::{Inbox, Offer, Shed};
use crate::wave::Wave;

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
