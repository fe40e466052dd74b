//! Answering a wave.

use std::sync::Arc;

use crate::clock::Moment;
use bytes::Bytes;
use serde::Serialize;

use super::{Kind, ReplyError, Wave, WaveBuilder};

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
    /// Those of [`Wave::reply`].
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
    /// Those of [`Wave::reply`].
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
