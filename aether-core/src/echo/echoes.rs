//! The receiving half of reflection: what a vibrator hears of its own waves that failed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop;

use super::{Echo, EchoMailbox, Reflector, pattern_of};
use crate::bus::{Bus, Lifeline, SubscriptionGuard};
use crate::inbox::InboxOptionsError;
use crate::medium::JoinError;
use crate::router::Listener;
use crate::source::Sequencer;

/// Why a vibrator cannot hear its echoes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EchoesError {
    /// Its echoes are being heard already. There is one receiving half at a time.
    #[error("the echoes of {name} are being heard already: drop the other receiving half first")]
    Taken {
        /// The vibrator's name.
        name: String,
    },
    /// The medium does not bring them.
    #[error("the echoes cannot be heard")]
    Join(#[from] JoinError),
    /// The queue could not be made.
    #[error("invalid queue")]
    Queue(#[from] InboxOptionsError),
}

/// The echoes of one vibrator's waves. Made by [`Emitter::echoes`](crate::Emitter::echoes); a stream as well.
///
/// Bounded: 256 echoes wait apart from each other, what comes beyond that is merged into the latest of the same reason
/// and counted in its [`count`](Echo::count) and in [`Echoes::merged`]. Over a network echoes are not authenticated: who
/// may publish and knows a wave's identity may say that it failed. What cannot be is ignored and counted. Dropping it ends the listening: from then on
/// failed waves of this source become dead letters.
#[derive(Debug)]
pub struct Echoes {
    mailbox: Arc<EchoMailbox>,
    reflector: Arc<Reflector>,
    /// Made after the mailbox is entered, and gone before it.
    subscription: Option<SubscriptionGuard>,
    /// Echoes are told for as long as there is the `Aether`.
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
        // Taken back when this is dropped, whatever of it is done by then.
        if !reflector.open(&mailbox) {
            return Err(EchoesError::Taken { name: source.name().to_owned() });
        }
        let mut echoes =
            Self { mailbox, reflector: Arc::clone(reflector), subscription: None, _aether: aether };
        let subscription = echoes.subscription.insert(bus.subscribe(
            pattern_of(source.instance()).map_err(JoinError::from)?,
            None,
            Arc::clone(echoes.mailbox.arrived()),
            Listener { sequencer: Arc::clone(sequencer), hears_own: true, observes: false, relabel: None },
        ));
        subscription.join().await?;
        Ok(echoes)
    }

    /// The next echo, the oldest first, or `None` when the medium was closed and everything was received.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no echo was taken.
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

    /// How many failures were merged into the echo of another one here, as there was no room: of those only the number
    /// and the reason are known. Those that were merged on the way are in [`Echo::count`] alone.
    #[must_use]
    pub fn merged(&self) -> u64 {
        self.mailbox.counts().merged
    }

    /// How many echoes were ignored, because this source has emitted no wave of that id.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.mailbox.counts().unknown
    }

    /// How many echoes were ignored, because they stood for more failures than this source has emitted waves.
    #[must_use]
    pub fn implausible(&self) -> u64 {
        self.mailbox.counts().implausible
    }

    /// How many messages on the channel of the echoes could not be read.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.mailbox.counts().malformed
    }
}

/// The echoes, one after the other; ends when the medium was closed and everything was received.
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
