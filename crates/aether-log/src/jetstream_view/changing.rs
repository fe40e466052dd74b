//! The operations of an operator on a log in JetStream: look at the waves that wait, at dead letters, and forget a
//! consumer.

use aether_core::Pattern;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use serde::Deserialize;
use serde_json::json;

use super::{JetStreamView, listing};
use crate::dead::StreamLetters;
use crate::jetstream::{InParts, Incomplete, JetStreamError, Parts, Subjects};
use crate::name::is_name;
use crate::stored_wave::{StoredWave, read_frame};

#[derive(Deserialize)]
struct Got {
    message: RawMessage,
}

#[derive(Deserialize)]
struct Done {}

impl JetStreamView {
    /// The dead letters of a log. Needs the right to publish to `$JS.API.STREAM.MSG.GET` and
    /// `$JS.API.STREAM.MSG.DELETE` of their stream.
    ///
    /// # Errors
    /// [`JetStreamError::Name`] if it cannot be the name of a log.
    pub fn letters(&self, log: &str) -> Result<StreamLetters, JetStreamError> {
        Ok(StreamLetters::new(self.connection.clone(), subjects(log)?))
    }

    /// At most `most` waves of a pattern from a position on. Needs the right to publish to
    /// `$JS.API.STREAM.MSG.GET` of the log, and of the stream of its parts. One request for each, and for each part of a
    /// large one. A message that cannot be read as a wave is passed over.
    ///
    /// # Errors
    /// [`JetStreamError`]: there is no such log, or the server does not answer or refuses.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn waves(
        &self,
        log: &str,
        pattern: &Pattern,
        from: u64,
        most: usize,
    ) -> Result<Vec<StoredWave>, JetStreamError> {
        let (subjects, mut waves, mut next) = (self.log(log).await?, Vec::new(), from.max(1));
        let filter = subjects.filter(pattern);
        while waves.len() < most {
            let content = json!({ "next_by_subj": filter, "seq": next });
            let got = self.connection.api::<Got>(log, format!("STREAM.MSG.GET.{log}"), &content).await;
            let message = match got {
                Ok(got) => got.message,
                Err(failure) if failure.is(ErrorCode::NO_MESSAGE_FOUND) => break,
                Err(failure) => return Err(failure.while_doing("read a wave of", log)),
            };
            next = message.sequence + 1;
            let Ok(message) = StreamMessage::try_from(message) else { continue };
            waves.extend(self.wave(&subjects, &message).await?);
        }
        Ok(waves)
    }

    async fn wave(
        &self,
        subjects: &Subjects,
        message: &StreamMessage,
    ) -> Result<Option<StoredWave>, JetStreamError> {
        let Some(channel) = subjects.name(&message.subject) else { return Ok(None) };
        let open = |body| self.connection.sealing.open(&message.subject, body).ok();
        let Some(mut opened) = open(&message.payload) else { return Ok(None) };
        if let Some(named) = InParts::read(&opened.frame) {
            let parts = Parts::new(self.connection.clone(), subjects.clone());
            let body = match parts.collect(channel, &named).await {
                Ok(body) => body,
                Err(Incomplete::Server(error)) => return Err(error),
                Err(_) => return Ok(None),
            };
            let Some(whole) = open(&body) else { return Ok(None) };
            opened = whole;
        }
        let micros = u64::try_from(message.time.unix_timestamp_nanos() / 1000).unwrap_or(0);
        Ok(read_frame(message.sequence, micros, Some(channel.as_bytes()), &opened.frame).ok())
    }

    /// Forgets a consumer for good: its position and its waves in flight. A program that uses the name again starts
    /// over. Its dead letters stay. Returns whether there was one. Needs the right to publish to
    /// `$JS.API.CONSUMER.DELETE`.
    ///
    /// # Errors
    /// [`JetStreamError`]: there is no such log, or the server does not answer or refuses.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the consumer is forgotten or stays.
    pub async fn forget_consumer(&self, log: &str, consumer: &str) -> Result<bool, JetStreamError> {
        self.log(log).await?;
        if !is_name(consumer) {
            return Ok(false);
        }
        let forgotten =
            self.connection.api::<Done>(consumer, format!("CONSUMER.DELETE.{log}.{consumer}"), &()).await;
        match forgotten {
            Ok(_) => Ok(true),
            Err(failure) if failure.is(ErrorCode::CONSUMER_NOT_FOUND) => Ok(false),
            Err(failure) => Err(failure.while_doing("forget the consumer", consumer)),
        }
    }

    /// The subjects of a stream that is a log: what belongs to others is never touched.
    async fn log(&self, name: &str) -> Result<Subjects, JetStreamError> {
        let subjects = subjects(name)?;
        match listing::described(&self.connection, &subjects).await? {
            Some(_) => Ok(subjects),
            None => Err(JetStreamError::NoLog { name: name.to_owned() }),
        }
    }
}

fn subjects(log: &str) -> Result<Subjects, JetStreamError> {
    if is_name(log) { Ok(Subjects::new(log)) } else { Err(JetStreamError::Name { name: log.to_owned() }) }
}
