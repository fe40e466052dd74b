//! A question that has its number and was not asked yet.

use std::time::Duration;

use super::Emitter;
use crate::medium::{AskError, EmitError};
use crate::source::WaveId;
use crate::wave::Wave;

/// A question with its identity, made by [`Emitter::question`] for callers that need the id even if there is no answer:
/// to log it, or to follow it on the bus. Dropped, the question was not asked and its number is not given again.
#[derive(Debug)]
#[must_use = "nothing is asked before ask_within()"]
pub struct Question<'a> {
    emitter: &'a Emitter,
    wave: Wave,
}

impl Emitter {
    /// Numbers a question, to be asked at once: its id is known before there is an answer.
    ///
    /// # Errors
    /// [`EmitError::Reserved`], [`EmitError::BelowFloor`] and [`EmitError::RateLimited`], as [`Emitter::emit`], but at once.
    pub fn question(&self, question: Wave) -> Result<Question<'_>, EmitError> {
        let wave = self.stamped(question).inspect_err(|error| self.note_limited(error))?;
        Ok(Question { emitter: self, wave })
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
        self.emitter.ask_numbered(self.wave, patience).await
    }
}
