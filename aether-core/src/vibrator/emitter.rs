//! The sending half of a vibrator.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use bytes::Bytes;
use serde::Serialize;
use tokio::task::coop;

use crate::aether::Aether;
use crate::channel::{Channel, ChannelError};
use crate::medium::{AskError, EmitError};
use crate::router::{Carried, Receipt};
use crate::source::{Sequencer, Source, WaveId};
use crate::wave::{Kind, Wave};

/// Emits waves under a vibrator's name. Cloning it is two reference counts; all clones share one sequence of numbers.
#[derive(Debug, Clone)]
pub struct Emitter {
    aether: Aether,
    sequencer: Arc<Sequencer>,
}

impl Emitter {
    /// How long [`Emitter::ask`] waits for an answer.
    pub const ASK_PATIENCE: Duration = Duration::from_secs(2);

    pub(super) fn new(aether: Aether, sequencer: Arc<Sequencer>) -> Self {
        Self { aether, sequencer }
    }

    pub(super) fn aether(&self) -> &Aether {
        &self.aether
    }

    pub(super) fn sequencer(&self) -> &Arc<Sequencer> {
        &self.sequencer
    }

    /// Who emits: the vibrator's name and its instance number.
    #[must_use]
    pub fn source(&self) -> &Source {
        self.sequencer.source()
    }

    /// The identity of a wave that this emitter emitted, such as for the [`cause`](crate::WaveBuilder::cause) of others.
    #[must_use]
    pub fn id_of(&self, receipt: &Receipt) -> WaveId {
        WaveId { source: self.source().clone(), sequence: receipt.sequence }
    }

    /// Emits a wave. Waits where a receiver's inbox or the outbox is full, at most as long as its options say; after
    /// that the weakest wave there is shed and counted.
    ///
    /// Ok means: in process, that the wave was offered to every inbox that hears it; on a network, that it is in the
    /// bounded outbox or has left. [`Aether::flush`] waits until the broker has it.
    ///
    /// # Errors
    /// [`EmitError`], which hands the wave back.
    ///
    /// # Cancel safety
    /// Cancelled while it waits for room, the wave has been offered all the same: a full inbox sheds its weakest wave
    /// at once and counts it. Cancelled before it is first polled, nothing was emitted.
    pub async fn emit(&self, wave: Wave) -> Result<Receipt, EmitError> {
        // Lets other tasks run in a loop that would otherwise never wait.
        coop::consume_budget().await;
        let waiting = match self.carry(wave) {
            Ok(Carried::Done(receipt)) => return Ok(receipt),
            Ok(Carried::Waiting(waiting)) => waiting,
            Err(error) => return Err(error),
        };
        Ok(waiting.finish().await)
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.aether.medium().carry(self.stamped(wave)?)
    }

    /// Emits a wave without ever waiting.
    ///
    /// # Errors
    /// [`EmitError::Full`] hands the wave back, offered to nobody, where [`Emitter::emit`] would have waited; the
    /// others are as there.
    pub fn try_emit(&self, wave: Wave) -> Result<Receipt, EmitError> {
        let wave = self.stamped(wave)?;
        self.aether.medium().try_carry(wave)
    }

    /// Emits an event of normal amplitude with a JSON payload.
    ///
    /// # Errors
    /// [`EmitError::Invalid`] if the channel is not valid or the payload cannot be written; else as [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn emit_wave<C>(&self, channel: C, payload: &impl Serialize) -> Result<Receipt, EmitError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        self.emit(Wave::from_json(channel, payload)?).await
    }

    /// Emits an event of normal amplitude with a payload of bytes.
    ///
    /// # Errors
    /// [`EmitError::Invalid`] if the channel is not valid; else as [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn emit_bytes<C>(&self, channel: C, payload: impl Into<Bytes>) -> Result<Receipt, EmitError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        self.emit(Wave::from_bytes(channel, payload)?).await
    }

    /// Passes on a wave that came from another medium, unchanged but for one hop more: it keeps its id, its source and
    /// its age, and arrives 5 % weaker. What a bridge between two media does.
    ///
    /// # Errors
    /// [`EmitError::TooFar`] for a wave that was relayed ten times already; else as [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn relay(&self, wave: &Wave) -> Result<Receipt, EmitError> {
        coop::consume_budget().await;
        let Some(onward) = wave.relayed(Instant::now()) else {
            return Err(EmitError::TooFar { wave: wave.clone() });
        };
        match self.aether.medium().carry(onward)? {
            Carried::Done(receipt) => Ok(receipt),
            Carried::Waiting(waiting) => Ok(waiting.finish().await),
        }
    }

    /// Asks a question with a JSON payload and waits for the first answer, at most [`Emitter::ASK_PATIENCE`].
    /// Ordinary term: request-reply.
    ///
    /// # Errors
    /// [`AskError::NoResonator`] at once when nobody listens on the channel; the others say why there is no answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the question may have been asked; an answer to it is dropped.
    pub async fn ask<C>(&self, channel: C, payload: &impl Serialize) -> Result<Wave, AskError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let question = Wave::builder(channel).kind(Kind::Query).json(payload).build()?;
        self.ask_wave(question, Self::ASK_PATIENCE).await
    }

    /// Asks a question that was made with [`Wave::builder`], with a patience of one's own.
    ///
    /// # Errors
    /// As [`Emitter::ask`].
    ///
    /// # Cancel safety
    /// As [`Emitter::ask`].
    pub async fn ask_wave(&self, question: Wave, patience: Duration) -> Result<Wave, AskError> {
        let question = self.stamped(question)?;
        self.aether.medium().ask(question, patience).await
    }

    #[inline]
    fn stamped(&self, mut wave: Wave) -> Result<Wave, EmitError> {
        if wave.channel().is_reserved() {
            return Err(EmitError::Reserved { wave });
        }
        wave.stamp(&self.sequencer, Instant::now());
        Ok(wave)
    }
}
