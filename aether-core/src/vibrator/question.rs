//! A question that has its number and was not asked yet.

use std::fmt;
use std::time::Duration;

use super::Emitter;
use super::tracer::{Emission, EmitSpan};
use crate::medium::{AskError, EmitError};
use crate::source::WaveId;
use crate::wave::Wave;

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
