//! The receiving half of reflection: a vibrator's own waves that failed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::task::coop;

use super::{Echo, EchoMailbox, Reflector, pattern_of};
use crate::bus::{Bus, Lifeline, SubscriptionGuard};
use crate::inbox::InboxOptionsError;
use crate::medium::JoinError;
use crate::router::Listener;
use crate::source::Sequencer;

/// Why a vibrator cannot receive its echoes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EchoesError {
    /// There is already a receiver for its echoes. Only one may exist at a time.
    #[error("the echoes of {name} already have a receiver: drop the other one first")]
    Taken {
        /// The vibrator's name.
        name: String,
    },
    /// The medium cannot deliver them.
    #[error("cannot subscribe to the echoes")]
    Join(#[from] JoinError),
    /// The queue could not be created.
    #[error("invalid queue")]
    Queue(#[from] InboxOptionsError),
}

/// The echoes of one vibrator's waves, also as a stream. Made by [`Emitter::echoes`](crate::Emitter::echoes).
///
/// Bounded: 256 echoes are queued separately. Beyond that they are merged into the latest of the same reason and
/// counted in its [`count`](Echo::count) and in [`Echoes::merged`].
///
/// Over a network without a list of signers echoes are not authenticated: a peer that may publish and knows a wave's id can
/// report that it failed. Impossible reports are ignored and counted.
///
/// Dropping it unsubscribes: from then on failed waves of this source become dead letters.
/// failed waves of this source become dead letters.
#[derive(Debug)]
pub struct Echoes {
    mailbox: Arc<EchoMailbox>,
    reflector: Arc<Reflector>,
    /// Created after the mailbox is registered, and dropped before it.
    subscription: Option<SubscriptionGuard>,
    /// Keeps the `Aether` alive, which delivers the echoes.
    _aether: Lifeline,
}

impl Echoes {
    pub(crate) async fn open(
        bus: &Bus,
        reflector: &Arc<Reflector>,
        sequencer: &Arc<Sequencer>,
        aether: Lifeline,
    ) -> Result<Self, EchoesError> {
        let mailbox = Arc::new(EchoMailbox::new(Arc::clone(sequencer), reflector.refused())?);
        let source = sequencer.source();
        // Undone when this is dropped, at whatever stage.
        if !reflector.open(&mailbox) {
            return Err(EchoesError::Taken { name: source.name().to_owned() });
        }
        let mut echoes =
            Self { mailbox, reflector: Arc::clone(reflector), subscription: None, _aether: aether };
        let subscription = echoes.subscription.insert(bus.subscribe(
            pattern_of(source.instance()).map_err(JoinError::from)?,
            None,
            Arc::clone(echoes.mailbox.arrived()),
            Listener::new(Arc::clone(sequencer)),
        ));
        subscription.join().await?;
        Ok(echoes)
    }

    /// The next echo, the oldest first, or `None` once the medium is closed and all echoes were received.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no echo was taken.
    pub async fn receive(&mut self) -> Option<Echo> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Echo>> {
        let proceed = ready!(coop::poll_proceed(cx));
        let polled = self.mailbox.poll_next(cx);
        if polled.is_ready() {
            proceed.made_progress();
        }
        polled
    }

    /// The number of failures merged here into the echo of another one for lack of room: only their number and reason
    /// are known. Echoes merged on the way are counted in [`Echo::count`] alone.
    #[must_use]
    pub fn merged(&self) -> u64 {
        self.mailbox.counts().merged
    }

    /// The number of echoes ignored because this source has not emitted a wave of that id.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.mailbox.counts().unknown
    }

    /// The number of echoes ignored because they stood for more failures than this source has emitted waves.
    #[must_use]
    pub fn implausible(&self) -> u64 {
        self.mailbox.counts().implausible
    }

    /// The number of unreadable messages on the channel of the echoes.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.mailbox.counts().malformed
    }
}

/// Yields the echoes; ends once the medium is closed and all echoes were received.
impl Stream for Echoes {
    type Item = Echo;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Echo>> {
        self.get_mut().poll_receive(cx)
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        self.reflector.shut(&self.mailbox);
        drop(self.subscription.take());
    }
}
