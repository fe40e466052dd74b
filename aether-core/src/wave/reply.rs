//! Answering a wave.

use std::sync::Arc;

use crate::clock::Moment;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::{Kind, Wave, WaveBuilder};

/// The way back to whoever asked. Made by a medium for each question it carries; for implementors of media.
pub trait ReplyPath: Send + Sync + 'static {
    /// Carries the answer. Ok means that it was handed to the asker (in process) or to the broker's client.
    fn carry(&self, reply: Wave) -> BoxFuture<'_, Result<(), ReplyError>>;
}

/// Why an answer could not be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The wave is no question: nobody waits for an answer, or it was not received from a vibrator.
    #[error("nobody asked: only a wave that came from ask() and was received by a vibrator can be answered")]
    NotAsked,
    /// The asker has its answer already or has given up. Known in process only.
    #[error("the asker no longer waits: it was answered already or gave up")]
    AskerGone,
    /// The answer could not be written.
    #[error("the answer could not be made")]
    Wave(#[from] super::WaveError),
    /// The answer is larger than the medium takes.
    #[error("the answer has {bytes} bytes on the wire: the medium takes at most {max_bytes}")]
    TooLarge {
        /// The size of the answer.
        bytes: usize,
        /// The largest the medium takes.
        max_bytes: usize,
    },
    /// The medium is closed.
    #[error("the medium is closed")]
    Closed,
}

impl Wave {
    /// Whether an answer to this wave can be given: it came from `ask` and was received by a vibrator.
    #[must_use]
    pub fn expects_reply(&self) -> bool {
        self.was_heard_by().is_some() && self.is_question()
    }

    /// Answers a question with a JSON payload. The answer has the question's channel and amplitude, names it as its
    /// cause, and does not decay. Of several answers the first counts.
    ///
    /// # Errors
    /// [`ReplyError`] says why; `AskerGone` can be ignored by those who do not mind.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the answer either was handed over or was not; it is never sent in parts.
    pub async fn reply(&self, payload: &impl Serialize) -> Result<(), ReplyError> {
        self.reply_wave(Self::builder(&self.body.channel).json(payload)).await
    }

    /// The same with a payload of bytes.
    ///
    /// # Errors
    /// As [`Wave::reply`].
    ///
    /// # Cancel safety
    /// As [`Wave::reply`].
    pub async fn reply_bytes(&self, payload: impl Into<Bytes>) -> Result<(), ReplyError> {
        self.reply_wave(Self::builder(&self.body.channel).bytes(payload)).await
    }

    /// The same with a wave of one's own making; channel, kind, amplitude, half-life and cause are set as for
    /// [`Wave::reply`].
    ///
    /// # Errors
    /// As [`Wave::reply`].
    ///
    /// # Cancel safety
    /// As [`Wave::reply`].
    pub async fn reply_wave(&self, reply: WaveBuilder) -> Result<(), ReplyError> {
        let (Some(path), Some(sequencer)) = (self.reply_path(), self.was_heard_by()) else {
            return Err(ReplyError::NotAsked);
        };
        let mut reply = reply
            .kind(Kind::Response)
            .amplitude(self.body.signal.amplitude)
            .never_decays()
            .cause(self.id())
            .build()?;
        if reply.channel() != self.channel() {
            // So that the answer is the same on all media, and observers hear it where the question was.
            triomphe::Arc::make_mut(&mut reply.body).channel = self.body.channel.clone();
        }
        reply.stamp(sequencer, Moment::now());
        Arc::clone(path).carry(reply).await
    }
}
