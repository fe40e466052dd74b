//! Waves delivered by a network that wait for room in their inboxes.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::join_all;
use smallvec::SmallVec;

use crate::inbox::Inbox;
use crate::wave::Wave;

/// Full inboxes, each with its waiting waves in order. Usually empty.
///
/// When dropped, the waves are offered at once, and full inboxes shed and count.
#[derive(Debug, Default)]
#[must_use = "settle() waits for room; dropping sheds at once"]
pub(crate) struct Crowded(SmallVec<[(Arc<Inbox>, VecDeque<Wave>); 1]>);

impl Crowded {
    /// The strongest level that has to wait for room.
    pub(crate) fn level(&self) -> Option<u8> {
        self.0.iter().filter_map(|(_, waves)| waves.front()).map(|wave| wave.signal().level()).min()
    }

    /// Offers waves to an inbox and keeps those that have to wait for room.
    pub(super) fn offer(&mut self, inbox: &Arc<Inbox>, waves: impl IntoIterator<Item = Wave>) {
        let rest = inbox.offer_while_room(waves);
        if !rest.is_empty() {
            self.0.push((Arc::clone(inbox), rest));
        }
    }

    /// Waits until all waves are offered. Each waits at most for the patience of its inbox.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the remaining waves are offered at once.
    pub(crate) async fn settle(mut self) {
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
