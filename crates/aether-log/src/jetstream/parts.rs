//! Stores what is larger than a message may be, and collects it: a message names parts that are stored before it, so nothing
//! is delivered before everything is stored.
//!
//! The parts of waves are in a stream of their own, which the first of them makes, and which drops them by the age of the
//! stream of the waves. The parts of a dead letter are beside it, below its subject. A sealed wave is sealed before it is
//! cut.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, RawMessage};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::connection::{Connection, Published};
use super::error::JetStreamError;
use super::in_parts::InParts;
use super::settings::{ensure_stream, parts_stream};
use super::subjects::Subjects;
use crate::store::{Appended, Entry};

/// Room for the headers of a message, whose subjects and ids have at most 300 bytes.
const HEADERS: usize = 512;
/// The number of parts that are asked for at once.
const AT_ONCE: usize = 4;

/// Why a wave was not collected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Incomplete {
    #[error("part {part} of {parts} is not in the stream {stream} any more")]
    Missing { part: u32, parts: u32, stream: String },
    #[error("its parts are not those that were stored")]
    Altered,
    #[error(transparent)]
    Server(#[from] JetStreamError),
}

#[derive(Deserialize)]
struct GotPart {
    message: RawMessage,
}

/// Stores waves and dead letters of any size.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    connection: Arc<Connection>,
    subjects: Subjects,
}

/// Where a message is stored, and the parts that it names.
struct Target {
    stream: String,
    subject: String,
    parts_stream: String,
    /// The parts are on subjects below it.
    root: String,
}

impl Target {
    fn part(&self, number: u64, part: u32) -> String {
        format!("{}.{number:x}.{part}", self.root)
    }
}

impl Parts {
    pub(crate) const fn new(connection: Arc<Connection>, subjects: Subjects) -> Self {
        Self { connection, subjects }
    }

    fn wave(&self, channel: &str) -> Target {
        let (stream, subject) = (self.subjects.stream().to_owned(), self.subjects.wave(channel));
        Target { stream, subject, parts_stream: self.subjects.parts_stream(), root: self.subjects.parts() }
    }

    fn letter(&self, subject: &str) -> Target {
        let (stream, subject) = (self.subjects.side_stream(), subject.to_owned());
        Target { parts_stream: stream.clone(), root: subject.clone(), stream, subject }
    }

    /// Stores a wave, as [`Connection::publish`].
    pub(crate) async fn store(&self, wave: Entry, message_id: &str) -> Result<Appended, JetStreamError> {
        self.put(&self.wave(&wave.name), wave, message_id).await
    }

    /// Stores a dead letter on its subject, likewise.
    pub(crate) async fn store_letter(
        &self,
        subject: &str,
        letter: Entry,
        message_id: &str,
    ) -> Result<u64, JetStreamError> {
        Ok(self.put(&self.letter(subject), letter, message_id).await?.position)
    }

    /// The size that a message may have now. A reconnect may change it.
    fn room(&self) -> usize {
        self.connection.client.max_payload().saturating_sub(HEADERS)
    }

    async fn put(&self, to: &Target, entry: Entry, message_id: &str) -> Result<Appended, JetStreamError> {
        let sealed = self.connection.sealing.seal(&to.subject, entry.body.clone())?;
        let publish = |body| {
            self.connection.publish_sealed(&to.stream, &to.subject, message_id, HeaderMap::new(), body)
        };
        if sealed.len() <= self.room() {
            let stored = publish(sealed.clone()).await;
            if !matches!(stored, Err(JetStreamError::TooLarge { .. })) || sealed.len() <= self.room() {
                return stored.map(Published::appended);
            }
        }
        if to.parts_stream != to.stream {
            self.make_stream(&to.stream).await?;
        }
        let mut named = InParts::new(&entry);
        drop(entry);
        if let Err(error) = self.put_parts(to, &mut named, sealed).await {
            self.drop_parts(to, named.number).await;
            return Err(error);
        }
        let body = self.connection.sealing.seal(&to.subject, named.write())?;
        let stored = publish(body.clone()).await?;
        // The wave may have been stored by an earlier attempt, with parts of its own. A second try of this one counts as a
        // duplicate as well.
        let is_copy = stored.is_duplicate && {
            let there = self.message(&to.stream, json!({ "seq": stored.position })).await?;
            there.is_some_and(|there| there.payload != body)
        };
        if is_copy {
            self.drop_parts(to, named.number).await;
        }
        Ok(Appended { position: stored.position, is_copy })
    }

    async fn put_parts(
        &self,
        to: &Target,
        named: &mut InParts,
        mut rest: Bytes,
    ) -> Result<(), JetStreamError> {
        (named.bytes, named.checksum) = (rest.len() as u64, crc32fast::hash(&rest));
        while !rest.is_empty() {
            let room = self.room();
            if room == 0 {
                let (stream, limit) = (to.stream.clone(), self.connection.client.max_payload());
                return Err(JetStreamError::TooLarge { stream, bytes: rest.len(), limit });
            }
            let part = rest.slice(..room.min(rest.len()));
            let (bytes, subject) = (part.len(), to.part(named.number, named.parts));
            let stored =
                self.connection.publish_sealed(&to.parts_stream, &subject, &subject, HeaderMap::new(), part);
            match stored.await {
                Ok(_) => {
                    named.parts += 1;
                    drop(rest.split_to(bytes));
                }
                // It has connected to a server that takes less.
                Err(JetStreamError::TooLarge { .. }) if bytes > self.room() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the stream of the parts of waves, or checks it.
    async fn make_stream(&self, waves: &str) -> Result<(), JetStreamError> {
        let info = self.connection.api::<Info>(waves, format!("STREAM.INFO.{waves}"), &()).await;
        let info = info.map_err(|failure| failure.while_doing("describe the stream", waves))?;
        ensure_stream(&self.connection, &parts_stream(&self.subjects, info.config)).await
    }

    /// Drops the parts of an attempt. The server drops by their age those that stay.
    async fn drop_parts(&self, of: &Target, number: u64) {
        let filter = format!("{}.{number:x}.*", of.root);
        if let Err(error) = self.purge(&of.parts_stream, &filter).await {
            tracing::warn!(stream = of.parts_stream, %error, "parts that nothing names stay");
        }
    }

    /// Drops the parts of a dead letter that is gone.
    pub(crate) async fn drop_letter(&self, subject: &str) -> Result<(), JetStreamError> {
        self.purge(&self.subjects.side_stream(), &format!("{subject}.>")).await
    }

    async fn purge(&self, stream: &str, filter: &str) -> Result<(), JetStreamError> {
        let (subject, content) = (format!("STREAM.PURGE.{stream}"), json!({ "filter": filter }));
        let purged = self.connection.api::<IgnoredAny>(stream, subject, &content).await;
        purged.map(drop).map_err(|failure| failure.while_doing("drop parts of", stream))
    }

    /// Collects the wave that a message of a channel names.
    pub(crate) async fn collect(&self, channel: &str, named: &InParts) -> Result<Bytes, Incomplete> {
        self.get(&self.wave(channel), named).await
    }

    /// Collects the dead letter that the message on its subject names.
    pub(crate) async fn collect_letter(&self, subject: &str, named: &InParts) -> Result<Bytes, Incomplete> {
        self.get(&self.letter(subject), named).await
    }

    async fn get(&self, from: &Target, named: &InParts) -> Result<Bytes, Incomplete> {
        let parts = (0..named.parts).map(|part| async move {
            let which = json!({ "last_by_subj": from.part(named.number, part) });
            let message = self.message(&from.parts_stream, which).await?;
            message.map(|message| message.payload).ok_or_else(|| Incomplete::Missing {
                part: part + 1,
                parts: named.parts,
                stream: from.parts_stream.clone(),
            })
        });
        let mut parts = stream::iter(parts).buffered(AT_ONCE);
        let bytes = usize::try_from(named.bytes).map_err(|_| Incomplete::Altered)?;
        let mut whole = Vec::with_capacity(bytes);
        while let Some(part) = parts.try_next().await? {
            // No more than was named, and not without end.
            if part.is_empty() || whole.len() + part.len() > bytes {
                return Err(Incomplete::Altered);
            }
            whole.extend_from_slice(&part);
        }
        match whole.len() == bytes && crc32fast::hash(&whole) == named.checksum {
            true => Ok(whole.into()),
            false => Err(Incomplete::Altered),
        }
    }

    async fn message(
        &self,
        stream: &str,
        which: serde_json::Value,
    ) -> Result<Option<StreamMessage>, JetStreamError> {
        match self.connection.api::<GotPart>(stream, format!("STREAM.MSG.GET.{stream}"), &which).await {
            Ok(GotPart { message }) => Ok(StreamMessage::try_from(message).ok()),
            Err(failure)
                if failure.is(ErrorCode::NO_MESSAGE_FOUND) || failure.is(ErrorCode::STREAM_NOT_FOUND) =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure.while_doing("read a part of", stream)),
        }
    }
}
