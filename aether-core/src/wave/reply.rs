//! Answering a wave, also with the reason why there is no answer.
//!
//! A handler of questions sends a failure with [`Wave::reply_failure`]. `ask` turns it into
//! [`AskError::Failed`](crate::AskError::Failed), so that the asker fails at once and does not time out. It travels as
//! a response with the metadata entry [`FAILURE`], alike on every medium and in every wire format; the payload is the
//! hint, as text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::{Kind, MAX_HINT_BYTES, ReplyError, Wave, WaveBuilder};
use crate::clock::Moment;

impl Wave {
    /// Whether this wave can be answered: it came from `ask` and was received by a vibrator.
    #[must_use]
    pub fn expects_reply(&self) -> bool {
        self.was_heard_by().is_some() && self.is_question()
    }

    /// Answers a question with a JSON payload. The answer has the question's channel and amplitude, names the question
    /// as its cause, belongs to its request, and does not decay. The asker gets the first of several answers.
    ///
    /// # Errors
    /// [`ReplyError`]; callers that do not care can ignore `AskerGone`.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the answer either was handed over or was not; it is never sent in part.
    pub async fn reply(&self, payload: impl Serialize) -> Result<(), ReplyError> {
        self.reply_wave(Self::builder(&self.body.channel).json(payload)).await
    }

    /// Like [`Wave::reply`], with a payload of bytes.
    ///
    /// # Errors
    /// As [`Wave::reply`].
    ///
    /// # Cancel safety
    /// Like [`Wave::reply`].
    pub async fn reply_bytes(&self, payload: impl Into<Bytes>) -> Result<(), ReplyError> {
        self.reply_wave(Self::builder(&self.body.channel).bytes(payload)).await
    }

    /// Like [`Wave::reply`], with a wave of your own. Channel, kind, amplitude, half-life, cause and root are
    /// overwritten.
    ///
    /// # Errors
    /// As [`Wave::reply`].
    ///
    /// # Cancel safety
    /// Like [`Wave::reply`].
    pub async fn reply_wave(&self, reply: WaveBuilder) -> Result<(), ReplyError> {
        let (Some(path), Some(sequencer)) = (self.reply_path(), self.was_heard_by()) else {
            return Err(ReplyError::NotAsked);
        };
        let mut reply = reply
            .kind(Kind::Response)
            .amplitude(self.body.signal.amplitude)
            .never_decays()
            .answering(self)
            .build()?;
        if reply.channel() != self.channel() {
            // The answer is then the same on all media, and observers hear it on the question's channel.
            reply.body.make_mut().channel = self.body.channel.clone();
        }
        reply.stamp(sequencer, Moment::now());
        Arc::clone(path).carry(reply).await
    }
}

/// The metadata entry that marks an answer as a failure. Its value is the reason.
pub const FAILURE: &str = "aether-failure";

/// Why a question has no answer, as reported by the responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureReason {
    /// The question is malformed or not allowed. Asking again does not help.
    Rejected,
    /// The handler failed: an error, a panic or a time-out.
    HandlerFailed,
    /// The question was not attempted: the responder is too busy or shutting down.
    Shed,
    /// Nobody listens on the channel, as a bridge reports for its other side. `ask` fails with
    /// [`AskError::NoResonator`](crate::AskError::NoResonator).
    NoResonator,
}

impl FailureReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Rejected, Self::HandlerFailed, Self::Shed, Self::NoResonator];

    /// The reason on the wire: `rejected`, `handler_failed`, `shed`, `no_resonator`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::HandlerFailed => "handler_failed",
            Self::Shed => "shed",
            Self::NoResonator => "no_resonator",
        }
    }

    /// Whether asking again may help.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Rejected => false,
            Self::HandlerFailed | Self::Shed | Self::NoResonator => true,
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is not a failure reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a failure reason: use rejected, handler_failed, shed or no_resonator")]
pub struct FailureReasonError {
    given: String,
}

impl FromStr for FailureReason {
    type Err = FailureReasonError;
    fn from_str(text: &str) -> Result<Self, FailureReasonError> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| FailureReasonError { given: text.to_owned() })
    }
}

/// The content of a failure reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {hint}")]
#[non_exhaustive]
pub struct Failure {
    /// The reason, for programs.
    pub reason: FailureReason,
    /// The details, for people.
    pub hint: String,
}

impl Wave {
    /// Answers a question with an error: `ask` fails with [`AskError::Failed`](crate::AskError::Failed) at once.
    /// Otherwise like [`Wave::reply`]. Hints longer than [`MAX_HINT_BYTES`] are cut off.
    ///
    /// # Errors
    /// As [`Wave::reply`].
    ///
    /// # Cancel safety
    /// As [`Wave::reply`].
    pub async fn reply_failure(&self, reason: FailureReason, hint: &str) -> Result<(), ReplyError> {
        let hint = &hint[..hint.floor_char_boundary(MAX_HINT_BYTES)];
        let failure = Self::builder(self.channel()).text(hint).metadata(FAILURE, reason.as_str());
        self.reply_wave(failure).await
    }

    /// The failure, if this wave is a failure reply. An unknown reason of a later version reads as `HandlerFailed`.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        if self.kind() != Kind::Response {
            return None;
        }
        let reason = self.metadata().value(FAILURE)?;
        let reason = reason.parse().unwrap_or(FailureReason::HandlerFailed);
        Some(Failure { reason, hint: String::from_utf8_lossy(self.payload()).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_response_with_the_entry_is_a_failure() {
        let wave = |kind, reason: &str| {
            Wave::builder("a").kind(kind).text("no").metadata(FAILURE, reason).build().unwrap().failure()
        };
        for reason in FailureReason::ALL {
            let failure = wave(Kind::Response, reason.as_str()).unwrap();
            assert_eq!((failure.reason, failure.hint.as_str()), (reason, "no"));
            assert_eq!(failure.to_string(), format!("{reason}: no"));
        }
        assert_eq!(wave(Kind::Response, "of a later version").unwrap().reason, FailureReason::HandlerFailed);
        assert_eq!(wave(Kind::Event, "shed"), None);
        assert_eq!(Wave::builder("a").kind(Kind::Response).build().unwrap().failure(), None);
        assert!("Shed".parse::<FailureReason>().unwrap_err().to_string().contains("handler_failed"));
    }
}
