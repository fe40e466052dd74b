//! A wave waiting for room in inboxes, or until it is stored.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all, select_all};
use smallvec::SmallVec;

use super::offered::{Offered, Settled};
use super::stored::NotStored;
use crate::inbox::{Inbox, Offer};
use crate::wave::Wave;

/// A full inbox, or several of which the first with room receives the wave.
pub(super) type Full = SmallVec<[Arc<Inbox>; 1]>;

/// A wave and the full inboxes that it still has to be offered to, or a wave that is being stored.
///
/// When dropped, the wave is offered to all of them at once: they shed their weakest wave and count it. An emit
/// cancelled while waiting therefore loses nothing uncounted.
#[must_use = "finish() waits for room; dropping sheds at once"]
pub struct Waiting(Box<Awaited>);

/// Boxed, so that the return value stays small when nothing waits.
enum Awaited {
    Room(WaitingState),
    Storage(BoxFuture<'static, Result<Settled, NotStored>>),
}

struct WaitingState {
    /// Each with the waves as it sees them, in order; none once they were offered.
    full: Vec<(Full, VecDeque<Wave>)>,
    offered: Offered,
}

impl Waiting {
    /// A wave that waits for these inboxes, which have refused it or would. `offered` is the result of
    /// [`Waiting::finish`]. For implementors of media.
    pub fn new(wave: Wave, full: impl IntoIterator<Item = Arc<Inbox>>, offered: Offered) -> Self {
        let full = full.into_iter().map(|inbox| (Full::from_elem(inbox, 1), [wave.clone()].into()));
        Self::for_each(full.collect(), offered)
    }

    pub(super) fn for_each(full: Vec<(Full, VecDeque<Wave>)>, offered: Offered) -> Self {
        Self(Box::new(Awaited::Room(WaitingState { full, offered })))
    }

    /// A wave that is being stored, and is offered to its inboxes afterwards. If the future is dropped earlier, it has to
    /// see to both by other means. For implementors of media.
    pub fn for_storage(storing: impl Future<Output = Result<Settled, NotStored>> + Send + 'static) -> Self {
        Self(Box::new(Awaited::Storage(Box::pin(storing))))
    }

    /// Puts waves into the outbox of a medium under one lock, where those that find no room have to wait in their order, as
    /// [`Medium::carry_all`](crate::medium::Medium) requires. For implementors of media.
    pub fn by_outbox(waves: impl IntoIterator<Item = Wave>, outbox: &Arc<Inbox>) -> Option<Self> {
        let rest = outbox.offer_while_room(waves);
        if rest.is_empty() {
            return None;
        }
        Some(Self::for_each(vec![(Full::from_elem(Arc::clone(outbox), 1), rest)], Offered::UNKNOWN))
    }

    /// Waits for room in all inboxes at once, at most for the patience of each; then the weakest wave is shed. Inboxes
    /// with room get the wave without waiting for the others. A wave that is being stored waits for that first.
    ///
    /// # Errors
    /// [`NotStored`] with the wave, if its channel is durable and it was not stored. Waiting for room cannot fail.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the wave is offered at once to every inbox it was still waiting for.
    pub async fn finish(mut self) -> Result<Settled, NotStored> {
        match &mut *self.0 {
            Awaited::Storage(storing) => storing.as_mut().await,
            // Boxed, because it is large and rare and would otherwise enlarge the future of every emit.
            Awaited::Room(state) => {
                Box::pin(async {
                    match &mut *state.full {
                        [only] => offer(only).await,
                        full => drop(join_all(full.iter_mut().map(offer)).await),
                    }
                })
                .await;
                Ok(state.offered.into())
            }
        }
    }
}

/// Waits for one inbox, or for the first of several. The offer of a wave and its record are not interrupted.
async fn offer((inboxes, waves): &mut (Full, VecDeque<Wave>)) {
    if let [only] = inboxes.as_slice() {
        return only.offer_all_patiently(waves).await;
    }
    while let Some(wave) = waves.front() {
        // Polled in turn; the first that offers the wave ends the wait.
        drop(select_all(inboxes.iter().map(|inbox| Box::pin(inbox.offer_patiently(wave)))).await);
        waves.pop_front();
    }
}

impl Drop for WaitingState {
    fn drop(&mut self) {
        for (inboxes, waves) in self.full.drain(..) {
            if let Some(inbox) = inboxes.first() {
                waves.into_iter().for_each(|wave| drop(inbox.offer(wave, Offer::Unwaited)));
            }
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match &*self.0 {
            Awaited::Room(state) => &state.offered as &dyn fmt::Debug,
            Awaited::Storage(_) => &"storage",
        };
        f.debug_tuple("Waiting").field(of).finish()
    }
}
