//! Questions and their answers. Ordinary term: request-reply.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Emitter;
use super::tracer::{Emission, EmitSpan};
use crate::channel::{Channel, ChannelError};
use crate::medium::{AskError, EmitError};
use crate::source::WaveId;
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
        let question = self.stamped_when_due(question).await?;
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

/// A question with its identity, made by [`Emitter::question`] for callers that need the id even if there is no answer:
/// to log it, or to follow it on the bus. Dropped, the question was not asked and its number is not given again.
#[must_use = "nothing is asked before ask_within()"]
pub struct Question<'a> {
    emitter: &'a Emitter,
    wave: Wave,
    /// Ends with the question.
    span: Option<Box<dyn EmitSpan>>,
}

impl Emitter {
    /// Numbers a question, to be asked at once: its id is known before there is an answer.
    ///
    /// # Errors
    /// [`EmitError::Reserved`], [`EmitError::BelowFloor`] and [`EmitError::RateLimited`], as [`Emitter::emit`], but at once.
    pub fn question(&self, question: Wave) -> Result<Question<'_>, EmitError> {
        let wave = self.stamped(question).inspect_err(|error| self.note_limited(error))?;
        Ok(self.question_of(wave))
    }

    /// The question of a wave that has its number.
    pub(super) fn question_of(&self, mut wave: Wave) -> Question<'_> {
        let span = self.begin_span(&mut wave, Emission::Ask);
        Question { emitter: self, wave, span }
    }
}

impl Question<'_> {
    /// The identity of the question.
    #[must_use]
    pub fn id(&self) -> WaveId {
        self.wave.id()
    }

    /// Asks the question and waits for the first answer, at most `patience`.
    ///
    /// # Errors
    /// As [`Emitter::ask`].
    ///
    /// # Cancel safety
    /// As [`Emitter::ask`].
    pub async fn ask_within(self, patience: Duration) -> Result<Wave, AskError> {
        let Self { emitter, wave, mut span } = self;
        let asked = emitter.ask_numbered(wave, patience).await;
        if let (Err(error), Some(span)) = (&asked, &mut span) {
            span.failed(error);
        }
        asked
    }
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("emitter", &self.emitter)
            .field("wave", &self.wave)
            .finish_non_exhaustive()
    }
}
