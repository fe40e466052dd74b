//! A wave waiting for room in inboxes, or until it is stored.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all, select_all};
use smallvec::SmallVec;

use super::offered::{Offered, Settled};
use super::stored::{NotStored, StoredRange};
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
    Batch(BoxFuture<'static, BatchSettled>),
}

/// How several waves fared that were stored together.
#[derive(Debug, Default)]
pub struct BatchSettled {
    /// The places of those that were stored.
    pub stored: Option<StoredRange>,
    /// Those that were not, in their order.
    pub refused: Vec<NotStored>,
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

    /// Waves that [`Medium::carry_all`](crate::medium::Medium) has taken and that are stored together; otherwise as
    /// [`Waiting::for_storage`].
    pub fn for_batch(storing: impl Future<Output = BatchSettled> + Send + 'static) -> Self {
        Self(Box::new(Awaited::Batch(Box::pin(storing))))
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
    /// with room get the wave without waiting for the others. A wave that is being stored waits for that first. Of waves that
    /// are stored together it says nothing but whether they were: see [`Waiting::finish_all`].
    ///
    /// # Errors
    /// [`NotStored`] with the wave, if its channel is durable and it was not stored: the first one, of several. Waiting for
    /// room cannot fail.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the wave is offered at once to every inbox it was still waiting for.
    pub async fn finish(mut self) -> Result<Settled, NotStored> {
        match &mut *self.0 {
            Awaited::Storage(storing) => storing.as_mut().await,
            Awaited::Batch(storing) => {
                let refused = storing.as_mut().await.refused.into_iter().next();
                refused.map_or(Ok(Offered::UNKNOWN.into()), Err)
            }
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

    /// Like [`Waiting::finish`], for waves that [`Medium::carry_all`](crate::medium::Medium) has taken.
    ///
    /// # Cancel safety
    /// As [`Waiting::finish`]; waves that are being stored are stored and then offered.
    pub async fn finish_all(mut self) -> BatchSettled {
        if let Awaited::Batch(storing) = &mut *self.0 {
            return storing.as_mut().await;
        }
        match self.finish().await {
            Ok(Settled { stored, .. }) => BatchSettled {
                stored: stored.map(|stored| StoredRange::with(None, stored)),
                refused: Vec::new(),
            },
            Err(refused) => BatchSettled { stored: None, refused: vec![refused] },
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
            Awaited::Storage(_) | Awaited::Batch(_) => &"storage",
        };
        f.debug_tuple("Waiting").field(of).finish()
    }
}
