//! Waves delivered by a network that wait for room in their inboxes.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::join_all;
use smallvec::SmallVec;

use crate::inbox::Inbox;
use crate::wave::Wave;

/// Inboxes without room, each with the waves that it has not got yet, in order. Usually empty. Made by
/// [`Router::arrive_if_room`](crate::medium::Router::arrive_if_room).
///
/// Dropping it offers the waves at once; inboxes shed what does not fit and count it.
#[derive(Debug, Default)]
#[must_use = "settle() waits for room; dropping sheds at once"]
pub struct Crowded(SmallVec<[(Arc<Inbox>, VecDeque<Wave>); 1]>);

impl Crowded {
    /// The strongest level for which there is no room, 0 to 63, where 0 is the strongest. `None` if nothing waits.
    #[must_use]
    pub fn level(&self) -> Option<u8> {
        self.0.iter().filter_map(|(_, waves)| waves.front()).map(|wave| wave.signal().level()).min()
    }

    /// Offers waves to an inbox and keeps those that have to wait for room.
    pub(super) fn offer(&mut self, inbox: &Arc<Inbox>, waves: impl IntoIterator<Item = Wave>) {
        let rest = inbox.offer_while_room(waves);
        if !rest.is_empty() {
            self.0.push((Arc::clone(inbox), rest));
        }
    }

    /// Waits until all inboxes have got their waves. Each wave waits at most as long as its inbox lets emitters wait.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the rest is offered at once.
    pub async fn settle(mut self) {
        join_all(self.0.iter_mut().map(|(inbox, waves)| inbox.offer_all_patiently(waves))).await;
    }
}

impl Drop for Crowded {
    fn drop(&mut self) {
        for (inbox, waves) in self.0.drain(..) {
            if !waves.is_empty() {
                inbox.offer_all(waves);
            }
        }
    }
}
