//! A wave on its way to inboxes that have no room yet.

use std::sync::Arc;

use futures_util::future::{join_all, select_all};
use smallvec::SmallVec;

use super::Offered;
use crate::inbox::{Inbox, Offer};
use crate::wave::Wave;

/// A full inbox; or several, of which the first that has room is to get the wave.
pub(super) type Full = SmallVec<[Arc<Inbox>; 1]>;

/// A wave and the full inboxes it is still to be offered to.
///
/// Dropping it offers the wave to all of them at once: they shed their weakest wave and count it. So an emit that is
/// cancelled while it waits loses nothing that is not in a ledger.
#[derive(Debug)]
#[must_use = "finish() waits for room; dropping sheds at once"]
pub struct Waiting(Box<WaitingState>);

/// On the heap, so that what is returned where nothing waits stays small.
#[derive(Debug)]
struct WaitingState {
    /// Each with the wave as it sees it; nothing where it was offered.
    full: Vec<Option<(Full, Wave)>>,
    offered: Offered,
}

impl Waiting {
    /// A wave that has to wait for these inboxes, which have handed it back or would; for implementors of media.
    /// `offered` is what [`Waiting::finish`] returns.
    pub fn new(wave: Wave, full: impl IntoIterator<Item = Arc<Inbox>>, offered: Offered) -> Self {
        let full = full.into_iter().map(|inbox| (Full::from_elem(inbox, 1), wave.clone()));
        Self::for_each(full.collect(), offered)
    }

    pub(super) fn for_each(full: Vec<(Full, Wave)>, offered: Offered) -> Self {
        Self(Box::new(WaitingState { full: full.into_iter().map(Some).collect(), offered }))
    }

    /// Waits for room in all inboxes at once, for each at most as long as it lets emitters wait; then its weakest wave is
    /// shed. Those that have room get the wave without waiting for the others.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave is offered at once to every inbox it was still waiting for.
    pub async fn finish(mut self) -> Offered {
        // On the heap, as it is large and rare: the future of every emit would be as large.
        Box::pin(async {
            match &mut *self.0.full {
                [only] => offer(only).await,
                full => drop(join_all(full.iter_mut().map(offer)).await),
            }
        })
        .await;
        self.0.offered
    }
}

/// Waits for one inbox, or for the first of several. Nothing can come between the offer and the note that it was made.
async fn offer(place: &mut Option<(Full, Wave)>) {
    let Some((inboxes, wave)) = place else { return };
    match inboxes.as_slice() {
        [only] => only.offer_patiently(wave).await,
        // They are polled one after the other, and the first that offers the wave ends it.
        members => drop(select_all(members.iter().map(|inbox| Box::pin(inbox.offer_patiently(wave)))).await),
    }
    *place = None;
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for (inboxes, wave) in self.0.full.drain(..).flatten() {
            if let Some(inbox) = inboxes.first() {
                let _ = inbox.offer(wave, Offer::Unwaited);
            }
        }
    }
}
