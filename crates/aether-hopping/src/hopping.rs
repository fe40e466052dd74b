//! The trait that services call: hopping channels of a vibrator.
//!
//! [`receiver`](crate::receiver) and [`sender`](crate::sender) do the work.

use std::future::Future;

use aether_core::wave::ChannelError;
use aether_core::{Channel, JoinError, Receipt, Vibrator, Wave};
use serde::Serialize;

use crate::hop::Hop;
use crate::receiver::{self, HopJoinError};
use crate::sender::{HopEmitError, HoppingEmitter};
use crate::slot_counts::HopAccount;

/// Sends and receives on hopping channels. Ordinary term: an extension trait. The [crate](crate) has an example.
pub trait Hopping {
    /// Subscribes to a hopping channel. Once this returns, no wave is missed if the clocks are accurate within the guard.
    /// Waves arrive like any others, on the channel they were sent to. Has no effect if the vibrator is already
    /// subscribed to the channel by this [`Hop`]. The subscription ends with the vibrator.
    ///
    /// # Errors
    /// [`HopJoinError`] if the channel is invalid, the medium is closed, or the clock is not accurate enough.
    ///
    /// # Cancel safety
    /// If cancelled before completion, there is no subscription.
    fn resonate_hopping<C>(
        &self,
        channel: C,
        hop: &Hop,
    ) -> impl Future<Output = Result<(), HopJoinError>> + Send
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>;

    /// Unsubscribes from a hopping channel, for all keys. Queued waves can still be received. Has no effect without a
    /// subscription.
    fn detune_hopping(&self, channel: &Channel);

    /// The account of a hopping channel, or `None` without a subscription.
    #[must_use]
    fn hop_account(&self, channel: &Channel, hop: &Hop) -> Option<HopAccount>;

    /// Opens a hopping channel for sending: [`HoppingEmitter::open`].
    ///
    /// # Errors
    /// [`HopJoinError`] if the channel is invalid, the medium is closed, or the clock is not accurate enough.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no channel was opened.
    fn hopping<C>(
        &self,
        channel: C,
        hop: &Hop,
    ) -> impl Future<Output = Result<HoppingEmitter, HopJoinError>> + Send
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>;

    /// Emits an event of normal amplitude with a JSON payload on a hopping channel.
    ///
    /// The first call opens the channel. Over a network this measures the clock, which takes eight round trips.
    ///
    /// # Errors
    /// [`HopEmitError`] if the channel is invalid or cannot be opened, if the payload cannot be serialised, or as
    /// [`Emitter::emit`](aether_core::Emitter::emit).
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`](aether_core::Emitter::emit). If cancelled while the channel is being opened, nothing was
    /// emitted.
    fn emit_hopping_wave<C>(
        &self,
        channel: C,
        hop: &Hop,
        payload: impl Serialize,
    ) -> impl Future<Output = Result<Receipt, HopEmitError>> + Send
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>;
}

fn into_channel<C>(channel: C) -> Result<Channel, JoinError>
where
    C: TryInto<Channel>,
    ChannelError: From<C::Error>,
{
    Ok(channel.try_into().map_err(ChannelError::from)?)
}

/// Emits a wave that was made, on its channel.
async fn emit(
    vibrator: &Vibrator,
    wave: Result<Wave, HopEmitError>,
    hop: &Hop,
) -> Result<Receipt, HopEmitError> {
    let wave = wave?;
    let hopping = HoppingEmitter::open_on(vibrator, wave.channel().clone(), hop).await?;
    hopping.emit(wave).await
}

impl Hopping for Vibrator {
    fn resonate_hopping<C>(
        &self,
        channel: C,
        hop: &Hop,
    ) -> impl Future<Output = Result<(), HopJoinError>> + Send
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let (channel, tuner) = (into_channel(channel), self.tuner());
        async move { receiver::resonate(self.aether(), &tuner, channel?, hop).await }
    }

    fn detune_hopping(&self, channel: &Channel) {
        receiver::detune(self.aether(), &self.tuner(), channel);
    }

    fn hop_account(&self, channel: &Channel, hop: &Hop) -> Option<HopAccount> {
        receiver::account(self.aether(), &self.tuner(), channel, hop)
    }

    fn hopping<C>(
        &self,
        channel: C,
        hop: &Hop,
    ) -> impl Future<Output = Result<HoppingEmitter, HopJoinError>> + Send
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let channel = into_channel(channel);
        async move { HoppingEmitter::open_on(self, channel?, hop).await }
    }

    fn emit_hopping_wave<C>(
        &self,
        channel: C,
        hop: &Hop,
        payload: impl Serialize,
    ) -> impl Future<Output = Result<Receipt, HopEmitError>> + Send
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let wave = Wave::new(channel, payload).map_err(HopEmitError::from);
        emit(self, wave, hop)
    }
}
