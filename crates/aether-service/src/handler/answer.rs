//! The return values of handlers.

use std::fmt;

use aether_core::{Channel, Receipt, Wave, WaveBuilder};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use tower::BoxError;

use super::{Json, Payload, Typed};

/// The result of handling a wave: an answer, or none. The response type of the tower stack.
///
/// The wave is boxed, because results are moved many times on their way out and most handlers answer nothing.
pub struct Answer(Option<Box<WaveBuilder>>);

impl Answer {
    /// Handled without an answer.
    pub(crate) const NONE: Self = Self(None);

    /// An answer built by hand, for example with metadata. Sending it sets its channel, kind, amplitude and cause.
    #[must_use]
    pub fn wave(wave: WaveBuilder) -> Self {
        Self(Some(Box::new(wave)))
    }

    /// The wave to answer with; `None` without an answer.
    #[must_use]
    pub fn into_wave(self) -> Option<WaveBuilder> {
        self.0.map(|wave| *wave)
    }

    pub(crate) const fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&self.0).finish()
    }
}

/// The return type of a handler of `.on(..)`: `()` or `Result<(), E>`. A handler that ends with an emit may return its
/// result, a [`Receipt`].
#[diagnostic::on_unimplemented(
    message = "a handler of `.on(..)` cannot return `{Self}`",
    label = "return nothing, or `Result<(), E>`",
    note = "E is any error: `E: Into<Box<dyn std::error::Error + Send + Sync>>`",
    note = "to answer with a value, register the handler with `.on_query(..)`"
)]
pub trait IntoOutcome {
    /// Success, or why the handler failed.
    ///
    /// # Errors
    /// What the handler returned.
    fn into_outcome(self) -> Result<(), BoxError>;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The result of emitting: the wave was handled.
impl IntoOutcome for Receipt {
    fn into_outcome(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<T: IntoOutcome, E: Into<BoxError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Result<(), BoxError> {
        self.map_err(Into::into)?.into_outcome()
    }
}

/// The return type of a handler of `.on_query(..)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an answer",
    label = "return `Json<T>`, text, bytes or an `Answer`, or a `Result` of one of these",
    note = "for a value that can be serialised return `Json(value)`",
    note = "the error in a `Result` is any error: `E: Into<Box<dyn std::error::Error + Send + Sync>>`"
)]
pub trait IntoAnswer {
    /// The answer, or why there is none.
    ///
    /// # Errors
    /// What the handler returned, or why the answer cannot be written.
    fn into_answer(self) -> Result<Answer, BoxError>;

    /// The payload of the answer, for the [description](crate::description) of the service. Default: any.
    #[must_use]
    fn payload() -> Payload {
        Payload::ANY
    }
}

impl IntoAnswer for Answer {
    fn into_answer(self) -> Result<Answer, BoxError> {
        Ok(self)
    }
}

impl<T: Serialize> IntoAnswer for Json<T> {
    fn into_answer(self) -> Result<Answer, BoxError> {
        Ok(Answer::wave(blank()?.json(&self.0)))
    }

    fn payload() -> Payload {
        Payload::of_type("application/json")
    }
}

impl<T: Serialize + JsonSchema> IntoAnswer for Typed<T> {
    fn into_answer(self) -> Result<Answer, BoxError> {
        Json(self.0).into_answer()
    }

    fn payload() -> Payload {
        Payload::json::<T>()
    }
}

impl IntoAnswer for String {
    fn into_answer(self) -> Result<Answer, BoxError> {
        Ok(Answer::wave(blank()?.text(self)))
    }

    fn payload() -> Payload {
        Payload::of_type("text/plain")
    }
}

impl IntoAnswer for &'static str {
    fn into_answer(self) -> Result<Answer, BoxError> {
        self.to_owned().into_answer()
    }

    fn payload() -> Payload {
        String::payload()
    }
}

impl IntoAnswer for Bytes {
    fn into_answer(self) -> Result<Answer, BoxError> {
        Ok(Answer::wave(blank()?.bytes(self)))
    }

    fn payload() -> Payload {
        Payload::of_type("application/octet-stream")
    }
}

impl IntoAnswer for Vec<u8> {
    fn into_answer(self) -> Result<Answer, BoxError> {
        Bytes::from(self).into_answer()
    }

    fn payload() -> Payload {
        Bytes::payload()
    }
}

/// An empty answer.
impl IntoAnswer for () {
    fn into_answer(self) -> Result<Answer, BoxError> {
        Bytes::new().into_answer()
    }
}

impl<T: IntoAnswer, E: Into<BoxError>> IntoAnswer for Result<T, E> {
    fn into_answer(self) -> Result<Answer, BoxError> {
        self.map_err(Into::into)?.into_answer()
    }

    fn payload() -> Payload {
        T::payload()
    }
}

/// A wave without content. Sending it sets its channel to the channel of the question.
fn blank() -> Result<WaveBuilder, BoxError> {
    Ok(Wave::builder(Channel::new("answer")?))
}
