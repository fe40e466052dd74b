//! Dead letters in a second stream, and the failures of waves that are delivered again.

use std::collections::BTreeMap;
use std::sync::Arc;

use aether_core::Emitter;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::DeadError;
use super::given_up::GivenUp;
use super::kept::LETTER;
use super::letter::{Attempt, DeadWave, read_letter, written};
use super::{SentAgain, send_again};
use crate::jetstream::{Connection, Failure, InParts, Incomplete, JetStreamError, Parts, Subjects};
use crate::store::Entry;
use crate::stored_wave::{StoredWave, entry, identity};

/// The dead letters of a log in JetStream. Each method asks the server.
#[derive(Debug)]
pub struct StreamLetters {
    connection: Arc<Connection>,
    subjects: Subjects,
    parts: Parts,
    given_up: GivenUp,
}

/// An attempt that was begun and has not ended, as far as the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Underway {
    #[default]
    None,
    /// Beside others, one of which may have ended the process.
    Among,
    /// With nothing else in flight.
    Alone,
}

/// What is noted of a wave that is delivered again.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Noted {
    pub(crate) count: u32,
    pub(crate) listed: Vec<Attempt>,
    pub(crate) underway: Underway,
}

impl Noted {
    /// Earlier versions did not note attempts that begin.
    fn read(bytes: &[u8]) -> Option<Self> {
        let ((count, listed), rest) = postcard::take_from_bytes(bytes).ok()?;
        let underway = postcard::from_bytes(rest).unwrap_or_default();
        Some(Self { count, listed, underway })
    }
}

#[derive(Deserialize)]
struct Got {
    message: RawMessage,
}

#[derive(Deserialize)]
struct Done {}

/// The time of the server for a message, in microseconds since 1970.
fn micros(message: &StreamMessage) -> u64 {
    u64::try_from(message.time.unix_timestamp_nanos() / 1000).unwrap_or(0)
}

impl StreamLetters {
    pub(crate) fn new(connection: Arc<Connection>, subjects: Subjects) -> Self {
        let parts = Parts::new(Arc::clone(&connection), subjects.clone());
        Self { connection, subjects, parts, given_up: GivenUp::default() }
    }

    async fn get(&self, which: serde_json::Value) -> Result<Option<StreamMessage>, JetStreamError> {
        let name = self.subjects.side_stream();
        let got = self.connection.api::<Got>(&name, format!("STREAM.MSG.GET.{name}"), &which).await;
        match got {
            Ok(got) => Ok(StreamMessage::try_from(got.message).ok()),
            Err(failure) if failure.is(ErrorCode::NO_MESSAGE_FOUND) => Ok(None),
            Err(failure) => Err(failure.while_doing("read a message of", &name)),
        }
    }

    /// Opens what was stored on a subject.
    fn open(&self, subject: &str, body: &Bytes) -> Result<Bytes, JetStreamError> {
        let opened = self.connection.sealing.open(subject, body);
        opened.map(|opened| opened.frame).map_err(|unopened| JetStreamError::Refused {
            doing: "open a message of",
            name: self.subjects.side_stream(),
            source: Arc::new(unopened),
        })
    }

    /// Reads the letter of a message, which may be in parts. `None` if it cannot be read.
    async fn read(&self, message: &StreamMessage) -> Result<Option<DeadWave>, JetStreamError> {
        let subject = &*message.subject;
        let mut body = self.open(subject, &message.payload)?;
        if let Some(named) = InParts::read(&body) {
            let collected = match self.parts.collect_letter(subject, &named).await {
                Ok(collected) => collected,
                Err(Incomplete::Server(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(number = message.sequence, %error, "a dead letter cannot be read");
                    return Ok(None);
                }
            };
            body = self.open(subject, &collected)?;
        }
        Ok(read_letter(message.sequence, micros(message), None, &body))
    }

    /// The numbers of all letters, the oldest first. One request for each.
    ///
    /// # Errors
    /// [`DeadError::Server`].
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn numbers(&self) -> Result<Vec<u64>, DeadError> {
        let (mut numbers, subject) = (Vec::new(), self.subjects.letters("*"));
        let mut next = 1;
        while let Some(message) = self.get(json!({ "next_by_subj": subject, "seq": next })).await? {
            numbers.push(message.sequence);
            next = message.sequence + 1;
        }
        Ok(numbers)
    }

    /// At most `most` letters with higher numbers than this, the oldest first. One request for each, and for each part of a
    /// large one.
    ///
    /// # Errors
    /// [`DeadError::Server`].
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn after(&self, number: u64, most: usize) -> Result<Vec<DeadWave>, DeadError> {
        let (mut letters, subject) = (Vec::new(), self.subjects.letters("*"));
        let mut next = number.saturating_add(1);
        while letters.len() < most {
            let message = self.get(json!({ "next_by_subj": subject, "seq": next })).await?;
            let Some(message) = message else { break };
            next = message.sequence + 1;
            letters.extend(self.read(&message).await?);
        }
        Ok(letters)
    }

    /// Stores the wave of a letter again, at the end of the log, so that its consumers get it again, and drops the
    /// letter. For callers that are not connected with the log; on the bus nobody hears the wave. If this is done twice
    /// within the time in which the server remembers ids, the wave is stored once. Returns the position.
    ///
    /// # Errors
    /// [`DeadError`]. If the wave was stored and the letter could not be dropped, it stays.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave may have been stored, and the letter stays.
    pub async fn store_again(&self, number: u64) -> Result<u64, DeadError> {
        let DeadWave { stored, attempts, .. } = self.show(number).await?;
        let wave = stored.wave.again(attempts).unwrap_or(stored.wave);
        let wave = entry(&wave).map_err(|source| JetStreamError::Refused {
            doing: "write the wave of a letter of",
            name: self.subjects.stream().to_owned(),
            source: Arc::new(source),
        })?;
        let id = format!("{}:letter:{number}", self.subjects.side_stream());
        let stored = self.parts.store(wave, &id).await?;
        self.drop_letter(number).await?;
        Ok(stored.position)
    }

    /// A letter.
    ///
    /// # Errors
    /// [`DeadError`] if there is no such letter, or the server does not answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn show(&self, number: u64) -> Result<DeadWave, DeadError> {
        let message = self.letter(number).await?;
        self.read(&message).await?.ok_or(DeadError::Unknown { number })
    }

    /// The message of a letter.
    async fn letter(&self, number: u64) -> Result<StreamMessage, DeadError> {
        let message = self.get(json!({ "seq": number })).await?;
        let letter = message.filter(|message| Subjects::is_letter(&message.subject));
        letter.ok_or(DeadError::Unknown { number })
    }

    /// Drops a letter for good.
    ///
    /// # Errors
    /// [`DeadError`]; the letter then stays, if there is one.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the letter is dropped or stays.
    pub async fn drop_letter(&self, number: u64) -> Result<(), DeadError> {
        let letter = self.letter(number).await?;
        let opened = self.open(&letter.subject, &letter.payload);
        let is_in_parts = opened.is_ok_and(|body| InParts::read(&body).is_some());
        let name = self.subjects.side_stream();
        let content = json!({ "seq": number, "no_erase": true });
        let dropped = self.connection.api::<Done>(&name, format!("STREAM.MSG.DELETE.{name}"), &content).await;
        match dropped {
            Ok(_) if is_in_parts => Ok(self.parts.drop_letter(&letter.subject).await?),
            Ok(_) => Ok(()),
            Err(failure) if failure.is(ErrorCode::NO_MESSAGE_FOUND) => Err(DeadError::Unknown { number }),
            Err(failure) => Err(failure.while_doing("drop a letter of", &name).into()),
        }
    }

    /// Emits the wave of a letter again, and drops the letter once the broker has confirmed it. On a durable channel
    /// the wave is stored again before that. It keeps its [identity](aether_core::Wave::again), unless the log has keys
    /// and another name has emitted it: only that name may sign it.
    ///
    /// # Errors
    /// [`DeadError`]. If the wave was emitted and the letter could not be dropped, it stays.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave may have been emitted, and the letter stays.
    pub async fn replay(&self, number: u64, emitter: &Emitter) -> Result<SentAgain, DeadError> {
        let DeadWave { stored: StoredWave { wave, .. }, attempts, .. } = self.show(number).await?;
        let may_sign = !self.connection.sealing.has_keys() || wave.source().name() == emitter.source().name();
        let again = wave.again(attempts).filter(|_| may_sign);
        let sent = send_again(number, wave, again, emitter).await?;
        self.drop_letter(number).await?;
        Ok(sent)
    }

    /// Keeps a wave that is given up. A letter about the same wave is replaced.
    pub(crate) async fn bury(
        &self,
        consumer: &str,
        stored: &StoredWave,
        attempts: u32,
        failed: &[Attempt],
    ) -> Result<u64, JetStreamError> {
        let subject = self.subjects.letter(consumer, stored.position, identity(&stored.wave));
        let body = written(consumer, stored, Some(stored.wave.channel()), attempts, failed);
        let message_id = format!("{subject}:{attempts}");
        let (id, level) = (identity(&stored.wave), stored.wave.signal().level());
        let name = stored.wave.channel().as_str().to_owned();
        let letter = Entry { kind: LETTER, level, id, name, body };
        self.parts.store_letter(&subject, letter, &message_id).await
    }

    /// Counts a wave that was buried.
    pub(crate) fn count_given_up(
        &self,
        consumer: &str,
        stored: &StoredWave,
        attempts: u32,
        failed: &[Attempt],
    ) {
        self.given_up.count(consumer, stored, attempts, failed);
    }

    pub(crate) fn begin(&self, consumer: &str) {
        self.given_up.begin(consumer);
    }

    pub(crate) fn given_up(&self) -> BTreeMap<String, u64> {
        self.given_up.waves()
    }

    /// Notes how often a wave has failed, and whether an attempt has begun, for the process that gets it next.
    pub(crate) async fn note_failures(
        &self,
        consumer: &str,
        (position, id): (u64, u128),
        noted: &Noted,
    ) -> Result<(), JetStreamError> {
        let subject = self.subjects.failures(consumer, position, id);
        // Writing to memory does not fail.
        let body = postcard::to_allocvec(noted).unwrap_or_default().into();
        let message_id = format!("{subject}:{}:{:x}", noted.count, fastrand::u64(..));
        self.connection.publish(&self.subjects.side_stream(), &subject, &message_id, body).await.map(drop)
    }

    /// The failures noted for a wave.
    pub(crate) async fn failures(
        &self,
        consumer: &str,
        (position, id): (u64, u128),
    ) -> Result<Noted, JetStreamError> {
        let subject = self.subjects.failures(consumer, position, id);
        let message = self.get(json!({ "last_by_subj": subject })).await?;
        let Some(message) = message else { return Ok(Noted::default()) };
        let noted = self.open(&message.subject, &message.payload)?;
        Ok(Noted::read(&noted).unwrap_or_default())
    }

    /// Forgets the failures of a wave that is settled.
    pub(crate) async fn forget_failures(
        &self,
        consumer: &str,
        (position, id): (u64, u128),
    ) -> Result<(), JetStreamError> {
        let (name, filter) = (self.subjects.side_stream(), self.subjects.failures(consumer, position, id));
        let purged = self
            .connection
            .api::<Done>(&name, format!("STREAM.PURGE.{name}"), &json!({ "filter": filter }))
            .await;
        purged.map(drop).map_err(|failure: Failure| failure.while_doing("forget failures in", &name))
    }
}
