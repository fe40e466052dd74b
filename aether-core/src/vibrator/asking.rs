//! Questions and their answers. Ordinary term: request-reply.

use std::time::Duration;

use serde::Serialize;

use super::Emitter;
use crate::channel::{Channel, ChannelError};
use crate::medium::{AskError, EmitError};
use crate::wave::{Failure, FailureReason, Kind, Wave};

impl Emitter {
    /// Asks a question and waits for the first answer, at most [`Emitter::ASK_PATIENCE`]. Ordinary term: request-reply.
    ///
    /// # Errors
    /// [`AskError::NoResonator`] at once when nobody listens on the channel, [`AskError::Failed`] when the answer is that
    /// it failed; the others say why there is no answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the question may have been asked; an answer to it is dropped.
    pub async fn ask<W>(&self, question: W) -> Result<Wave, AskError>
    where
        W: TryInto<Wave>,
        EmitError: From<W::Error>,
    {
        self.ask_within(question, Self::ASK_PATIENCE).await
    }

    /// Asks a question and waits for the first answer, at most `patience`.
    ///
    /// # Errors
    /// As [`Emitter::ask`].
    ///
    /// # Cancel safety
    /// As [`Emitter::ask`].
    pub async fn ask_within<W>(&self, question: W, patience: Duration) -> Result<Wave, AskError>
    where
        W: TryInto<Wave>,
        EmitError: From<W::Error>,
    {
        let question = question.try_into().map_err(EmitError::from)?;
        let question = match self.stamped(question) {
            Err(EmitError::RateLimited { wave }) => Box::pin(self.stamped_in_turn(wave)).await?,
            question => question?,
        };
        self.question_of(question).ask_within(patience).await
    }

    /// Asks a question that has its number.
    pub(super) async fn ask_numbered(&self, question: Wave, patience: Duration) -> Result<Wave, AskError> {
        let answer = match self.aether().medium().ask(question, patience).await {
            Err(AskError::Emit(error)) => return Err(self.unnumbered(error).into()),
            asked => asked?,
        };
        match answer.failure() {
            // As if the other side of the bridge were this medium.
            Some(Failure { reason: FailureReason::NoResonator, .. }) => {
                Err(AskError::NoResonator { channel: answer.channel().clone() })
            }
            Some(source) => Err(AskError::Failed { channel: answer.channel().clone(), source }),
            None => Ok(answer),
        }
    }

    /// Asks a query of normal amplitude with a JSON payload and waits for the first answer, at most
    /// [`Emitter::ASK_PATIENCE`].
    ///
    /// # Errors
    /// [`EmitError::Invalid`] in [`AskError::Emit`] if the channel is not valid or the payload cannot be written; else as
    /// [`Emitter::ask`].
    ///
    /// # Cancel safety
    /// As [`Emitter::ask`].
    pub async fn ask_wave<C>(&self, channel: C, payload: impl Serialize) -> Result<Wave, AskError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        self.ask(Wave::builder(channel).kind(Kind::Query).json(payload).build()?).await
    }
}
