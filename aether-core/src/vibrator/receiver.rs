//! The receiving half of a vibrator.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::pace::Pace;
use super::tuner::Tuner;
use crate::channel::{ChannelError, Pattern};
use crate::inbox::{Callback, Inbox, Offer};
use crate::source::Sequencer;
use crate::wave::Wave;

/// Receives the waves that a vibrator hears. Made by [`Vibrator::split`](crate::Vibrator::split); a stream as well.
///
/// All methods of [`Tuner`] can be called on it.
///
/// # When it ends
/// A receiver ends, so that [`receive`](Self::receive) returns `None`, when the [`Aether`](crate::Aether) was
/// [closed](crate::Aether::close) and everything that was queued has been received. Nothing else ends it: not dropping
/// emitters, since others can emit on its channels at any time, and not a broken connection, since that comes back. It
/// stays ended. Dropping the receiver ends its subscriptions; what was still queued is counted as lost with the reason
/// `closed`.
#[derive(Debug)]
pub struct Receiver {
    tuner: Tuner,
    /// The tuner's inbox and the sequencer of its emitter, kept here to save the indirection.
    inbox: Arc<Inbox>,
    sequencer: Arc<Sequencer>,
    pace: Pace,
    /// The callback of the inbox, which others may hold for longer.
    on_shed: Callback,
}

/// Why [`Receiver::try_receive`] returned no wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryReceiveError {
    /// No wave is queued now.
    #[error("no wave is queued")]
    Empty,
    /// The receiver [has ended](Receiver#when-it-ends).
    #[error("the medium was closed and everything was received")]
    Closed,
}

impl Receiver {
    pub(super) fn new(tuner: Tuner, on_shed: Callback) -> Self {
        let inbox = Arc::clone(tuner.inbox());
        let sequencer = Arc::clone(tuner.emitter().sequencer());
        Self { tuner, inbox, sequencer, pace: Pace::new(), on_shed }
    }

    /// A handle that changes what is heard, and reads the account, while another task owns this receiver.
    #[must_use]
    pub fn tuner(&self) -> Tuner {
        self.tuner.clone()
    }

    /// Waits for the next wave, the strongest first. `None` once the receiver [has ended](Self#when-it-ends).
    ///
    /// While stronger waves come as fast as they are received, weaker ones wait:
    /// [`ServeOrder::Strength`](crate::ServeOrder) has the remedies.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub async fn receive(&mut self) -> Option<Wave> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// The next wave that is queued, without waiting. It takes nothing from the budget that tokio gives a task, and
    /// never fails for lack of it: a loop over it has to give way to other tasks by itself.
    ///
    /// # Errors
    /// [`TryReceiveError::Empty`] if no wave is queued, [`TryReceiveError::Closed`] once the receiver
    /// [has ended](Self#when-it-ends).
    pub fn try_receive(&mut self) -> Result<Wave, TryReceiveError> {
        match self.inbox.try_receive() {
            Poll::Ready(Some(wave)) => Ok(wave.heard_by(&self.sequencer)),
            Poll::Ready(None) => Err(TryReceiveError::Closed),
            Poll::Pending => Err(TryReceiveError::Empty),
        }
    }

    /// Waits for a wave, then appends it and those queued behind it to `waves`: at least one and at most `max`, in the
    /// order in which [`receive`](Self::receive) returns them. Returns how many. Zero means that the receiver
    /// [has ended](Self#when-it-ends), or that `max` is zero.
    ///
    /// Ordinary term: a batch. All of its waves together take the inbox's lock twice at most, and one unit of the budget
    /// that tokio gives a task.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub async fn receive_many(&mut self, waves: &mut Vec<Wave>, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        let before = waves.len();
        let taken =
            std::future::poll_fn(|cx| Pace::poll_many(cx, |cx| self.inbox.poll_receive_many(cx, waves, max)))
                .await;
        waves.iter_mut().skip(before).for_each(|wave| wave.note_hearer(&self.sequencer));
        taken
    }

    /// Waits for the next wave whose channel matches a pattern, in the [`ServeOrder`](crate::ServeOrder) of the inbox.
    /// The others stay queued. Each call looks once at each queued wave. `None` once the receiver
    /// [has ended](Self#when-it-ends).
    ///
    /// This does not subscribe to the pattern: call [`Tuner::resonate_on`] first.
    ///
    /// # Errors
    /// [`ChannelError`] if the pattern is not valid.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub async fn receive_from<P>(&mut self, pattern: P) -> Result<Option<Wave>, ChannelError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        let pattern: Pattern = pattern.try_into()?;
        let mut seen = 0;
        let wave = std::future::poll_fn(|cx| {
            let matches = |wave: &Wave| pattern.matches(wave.channel());
            self.pace.poll(cx, |cx| self.inbox.poll_receive_where(cx, &mut seen, matches))
        })
        .await;
        Ok(wave.map(|wave| wave.heard_by(&self.sequencer)))
    }

    /// Puts a received wave back into the inbox, where it waits its turn by its strength, as it does after
    /// [`Wave::resent`]. It is offered like any wave: counted again, and shed where it is too weak.
    pub fn put_back(&self, wave: Wave) {
        // An offer of this kind is never handed back.
        let _ = self.inbox.offer(wave, Offer::Now);
    }

    #[inline]
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Wave>> {
        let polled = self.pace.poll(cx, |cx| self.inbox.poll_receive(cx));
        polled.map(|wave| wave.map(|wave| wave.heard_by(&self.sequencer)))
    }
}

impl Deref for Receiver {
    type Target = Tuner;
    fn deref(&self) -> &Tuner {
        &self.tuner
    }
}

/// The waves as [`Receiver::receive`] returns them.
impl Stream for Receiver {
    type Item = Wave;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Wave>> {
        self.get_mut().poll_receive(cx)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tuner.end();
        self.on_shed.revoke();
    }
}
