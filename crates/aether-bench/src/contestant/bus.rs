//! Aether, in process or over NATS: strong waves at 1.0, weak ones at 0.25, on one channel.

use std::sync::Arc;

use aether_core::{Aether, Channel, InboxOptions, Vibrator, Wave};
use bytes::Bytes;

use super::{Address, ContestantError, Hear, Offer, Profile};
use crate::losses::{Loss, Losses};
use crate::payload::{Load, Message};
use crate::schedule::Strength;

/// Emits without ever waiting.
pub(crate) struct AetherSender {
    aether: Aether,
    vibrator: Vibrator,
    channel: Channel,
    losses: Arc<Losses>,
}

impl AetherSender {
    pub(crate) async fn new(
        aether: Aether,
        channel: &Channel,
        losses: &Arc<Losses>,
    ) -> Result<Self, ContestantError> {
        let vibrator = Vibrator::create("bench-sender", &aether).await?;
        Ok(Self { aether, vibrator, channel: channel.clone(), losses: Arc::clone(losses) })
    }

    pub(crate) fn vibrator(&self) -> &Vibrator {
        &self.vibrator
    }

    pub(crate) fn wave(&self, payload: Bytes, strength: Strength) -> Wave {
        Wave::builder(&self.channel)
            .amplitude(strength.amplitude())
            .bytes(payload)
            .build()
            .expect("a channel that was checked and an amplitude that is one")
    }
}

impl Offer for AetherSender {
    fn offer(&mut self, payload: Bytes, strength: Strength) {
        if self.vibrator.try_emit(self.wave(payload, strength)).is_err() {
            self.losses.count(strength, Loss::Refused);
        }
    }

    async fn end(&mut self) -> bool {
        if !self.aether.promises().crosses_processes {
            // The receiver gets the queued waves and then `None`.
            return self.aether.close().await.is_ok();
        }
        // The end marker is stronger than queued waves and would overtake them, so it is sent only when the outbox is
        // empty. If the server is away, the next attempt will do.
        if self.aether.flush().await.is_err() {
            return false;
        }
        let end = self.wave(Message::End.to_payload(0), Strength::Strong);
        self.vibrator.emit(end).await.is_ok()
    }
}

/// Receives the strongest first.
pub(crate) struct AetherReceiver {
    aether: Aether,
    vibrator: Vibrator,
}

impl AetherReceiver {
    /// Subscribed once this returns. Counts the waves that its inbox sheds.
    pub(crate) async fn new(
        aether: Aether,
        channel: &Channel,
        profile: Profile,
        losses: &Arc<Losses>,
    ) -> Result<Self, ContestantError> {
        let inbox = losses.watch(profile.inbox(), Loss::of_inbox);
        let vibrator = Vibrator::builder("bench-receiver").inbox(inbox).create(&aether).await?;
        vibrator.resonate_on(channel).await?;
        Ok(Self { aether, vibrator })
    }

    /// Connects with its own address.
    pub(crate) async fn connect(
        address: &Address,
        channel: &Channel,
        profile: Profile,
        losses: &Arc<Losses>,
    ) -> Result<Self, ContestantError> {
        Self::new(address.connect(InboxOptions::interactive()).await?, channel, profile, losses).await
    }
}

impl Hear for AetherReceiver {
    async fn next(&mut self) -> Option<Load> {
        loop {
            let wave = self.vibrator.receive().await?;
            match Message::of_payload(wave.payload()) {
                Some(Message::Load(load)) => return Some(load),
                // All waves have been offered to the inbox: the queued ones come, and then `None`.
                Some(Message::End) => drop(self.aether.close().await),
                None => {}
            }
        }
    }
}
