//! The vibrator itself: an emitter and a receiver in one.

use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::emitter::Emitter;
use super::receiver::{Receiver, TryReceiveError};
use super::tuner::Tuner;
use crate::amplitude::Floor;
use crate::channel::{ChannelError, Pattern};
use crate::inbox::Ledger;
use crate::medium::JoinError;
use crate::wave::Wave;

/// A service on the bus: it emits waves, and receives the waves of the channels it is tuned to. Ordinary term: a client
/// handle with one mailbox.
///
/// All methods of [`Emitter`] can be called on it. Dropping it drops its [`Receiver`], which ends the subscriptions.
#[derive(Debug)]
pub struct Vibrator {
    emitter: Emitter,
    receiver: Receiver,
}

impl Vibrator {
    pub(super) fn new(emitter: Emitter, receiver: Receiver) -> Self {
        Self { emitter, receiver }
    }

    /// Takes the vibrator apart into its sending and its receiving half, for two tasks say. Dropping
    /// the receiver ends the subscriptions; the emitter works without it.
    #[must_use]
    pub fn split(self) -> (Emitter, Receiver) {
        (self.emitter, self.receiver)
    }

    /// The sending half, to be cloned and handed around. It outlives the vibrator.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }

    /// A handle that changes what is heard, and reads the account, while another task owns the vibrator.
    #[must_use]
    pub fn tuner(&self) -> Tuner {
        self.receiver.tuner()
    }

    /// Subscribes to the channels of a pattern: [`Tuner::resonate_on`].
    ///
    /// # Errors
    /// [`JoinError`] if the pattern is not valid, the medium is closed, or the vibrator hears 16,384 patterns already.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the pattern is not heard.
    pub async fn resonate_on<P>(&self, pattern: P) -> Result<(), JoinError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        self.receiver.resonate_on(pattern).await
    }

    /// Subscribes to the channels of a pattern as a member of a group: [`Tuner::resonate_in_group`].
    ///
    /// # Errors
    /// [`JoinError`] if the pattern or the name of the group is not valid, the medium is closed, or the vibrator is an
    /// observer or hears 16,384 patterns already.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the pattern is not heard.
    pub async fn resonate_in_group<P>(&self, pattern: P, group: &str) -> Result<(), JoinError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        self.receiver.resonate_in_group(pattern, group).await
    }

    /// Stops hearing a pattern, in all groups: [`Tuner::detune`].
    ///
    /// # Errors
    /// [`ChannelError`] if the pattern is not valid.
    pub fn detune<P>(&self, pattern: P) -> Result<(), ChannelError>
    where
        P: TryInto<Pattern>,
        ChannelError: From<P::Error>,
    {
        self.receiver.detune(pattern)
    }

    /// Waits for the next wave: [`Receiver::receive`]. `None` once the receiver [has ended](Receiver#when-it-ends).
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub async fn receive(&mut self) -> Option<Wave> {
        self.receiver.receive().await
    }

    /// The next wave that is queued, without waiting: [`Receiver::try_receive`].
    ///
    /// # Errors
    /// [`TryReceiveError`] if no wave is queued, or the receiver [has ended](Receiver#when-it-ends).
    pub fn try_receive(&mut self) -> Result<Wave, TryReceiveError> {
        self.receiver.try_receive()
    }

    /// Waits for a wave and appends it and those queued behind it: [`Receiver::receive_many`].
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave was taken.
    pub async fn receive_many(&mut self, waves: &mut Vec<Wave>, max: usize) -> usize {
        self.receiver.receive_many(waves, max).await
    }

    /// Waits for the next wave whose channel matches a pattern: [`Receiver::receive_from`].
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
        self.receiver.receive_from(pattern).await
    }

    /// Puts a received wave back into the inbox: [`Receiver::put_back`].
    pub fn put_back(&self, wave: Wave) {
        self.receiver.put_back(wave);
    }

    /// The account of the inbox.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.receiver.ledger()
    }

    /// The floor in effect: the configured one, or the higher one that overload has recently caused.
    #[must_use]
    pub fn effective_floor(&self) -> Floor {
        self.receiver.effective_floor()
    }
}

impl Deref for Vibrator {
    type Target = Emitter;
    fn deref(&self) -> &Emitter {
        &self.emitter
    }
}

/// The waves as [`Receiver::receive`] returns them.
impl Stream for Vibrator {
    type Item = Wave;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Wave>> {
        self.get_mut().receiver.poll_receive(cx)
    }
}
