//! Waves for later in JetStream: the server keeps them in a stream of their own, and delivers them.
//!
//! A stream whose messages the server delivers later may not refuse messages when it is full, as the stream of the waves
//! does. So they are in a second stream, and the stream of the waves has that one as a source: it takes over each message
//! that is due, once and in order. Sealed waves are sealed for the subject at which they arrive.

use std::sync::Arc;
use std::time::SystemTime;

use aether_core::Channel;
use aether_core::clock::micros_since_1970;
use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::connection::{Connection, Failure};
use super::error::JetStreamError;
use super::settings::{change_stream, schedule_stream, stream_settings};
use super::subjects::Subjects;
use crate::schedule::{Rule, Schedule, Scheduled, time};
use crate::store::Entry;

/// The versions of the server that deliver once, and regularly.
const ONCE: (&str, (u64, u64)) = ("2.12", (2, 12));
const REGULARLY: (&str, (u64, u64)) = ("2.14", (2, 14));

/// The header with the schedule as this library writes it.
const RULE: &str = "Aether-Schedule";

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

#[derive(Deserialize)]
struct GotSchedule {
    message: RawMessage,
}

/// The schedules of a log in JetStream.
#[derive(Debug, Clone)]
pub(crate) struct StreamSchedules(Arc<ScheduleStream>);

#[derive(Debug)]
struct ScheduleStream {
    connection: Arc<Connection>,
    subjects: Subjects,
    replicas: usize,
    /// Set once the streams are known to be there.
    is_ready: OnceCell<()>,
}

impl StreamSchedules {
    pub(crate) fn new(connection: Arc<Connection>, subjects: Subjects, replicas: usize) -> Self {
        Self(Arc::new(ScheduleStream { connection, subjects, replicas, is_ready: OnceCell::new() }))
    }

    /// Keeps a wave until it is due. One of the same identity replaces it.
    pub(crate) async fn keep(&self, due: SystemTime, wave: Entry) -> Result<(), JetStreamError> {
        self.put_at(&self.0.subjects.once(wave.id), &Schedule::at(due), wave).await
    }

    pub(crate) async fn put(
        &self,
        key: &str,
        schedule: &Schedule,
        wave: Entry,
    ) -> Result<(), JetStreamError> {
        self.put_at(&self.0.subjects.keyed(key), schedule, wave).await
    }

    async fn put_at(&self, subject: &str, schedule: &Schedule, wave: Entry) -> Result<(), JetStreamError> {
        let ScheduleStream { connection, subjects, is_ready, .. } = &*self.0;
        self.check_version(if schedule.is_regular() { REGULARLY } else { ONCE })?;
        is_ready.get_or_try_init(|| self.make_ready()).await?;
        let body = connection.sealing.seal(&subjects.wave(&wave.name), wave.body)?;
        let (mut headers, (when, zone)) = (HeaderMap::new(), schedule.of_server());
        headers.insert("Nats-Schedule", when);
        headers.insert("Nats-Schedule-Target", subjects.due(&wave.name));
        if let Some(zone) = zone {
            headers.insert("Nats-Schedule-Time-Zone", zone);
        }
        headers.insert(RULE, serde_json::to_string(&schedule.0).unwrap_or_default());
        let (stream, id) = (subjects.schedule_stream(), format!("{:x}", wave.id));
        connection.publish_sealed(&stream, subject, &id, headers, body).await.map(drop)
    }

    /// Ends a schedule. Returns whether there was one.
    pub(crate) async fn cancel(&self, key: &str) -> Result<bool, JetStreamError> {
        let ScheduleStream { connection, subjects, .. } = &*self.0;
        let (name, content) = (subjects.schedule_stream(), json!({ "filter": subjects.keyed(key) }));
        match connection.api::<Purged>(&name, format!("STREAM.PURGE.{name}"), &content).await {
            Ok(Purged { purged }) => Ok(purged > 0),
            Err(failure) if failure.is(ErrorCode::STREAM_NOT_FOUND) => Ok(false),
            Err(failure) => Err(failure.while_doing("cancel a schedule of", &name)),
        }
    }

    /// The schedules, sorted by key.
    pub(crate) async fn list(&self) -> Result<Vec<Scheduled>, JetStreamError> {
        let ScheduleStream { connection, subjects, .. } = &*self.0;
        let (name, subject, mut listed, mut next) =
            (subjects.schedule_stream(), subjects.keyed("*"), Vec::new(), 1);
        loop {
            let which = json!({ "next_by_subj": subject, "seq": next });
            let got = connection.api::<GotSchedule>(&name, format!("STREAM.MSG.GET.{name}"), &which).await;
            let message = match got {
                Ok(GotSchedule { message }) => message,
                Err(failure)
                    if failure.is(ErrorCode::NO_MESSAGE_FOUND) || failure.is(ErrorCode::STREAM_NOT_FOUND) =>
                {
                    break;
                }
                Err(failure) => return Err(failure.while_doing("list the schedules of", &name)),
            };
            next = message.sequence + 1;
            listed.extend(StreamMessage::try_from(message).ok().and_then(|message| self.read(&message)));
        }
        listed.sort_unstable_by(|one: &Scheduled, other| one.key.cmp(&other.key));
        Ok(listed)
    }

    /// `None` for a schedule of another program, or of a later version.
    fn read(&self, message: &StreamMessage) -> Option<Scheduled> {
        let rule: Rule = serde_json::from_str(message.headers.get(RULE)?.as_str()).ok()?;
        let channel = message.headers.get("Nats-Schedule-Target")?.as_str();
        let channel = Channel::new(channel.strip_prefix(&self.0.subjects.due(""))?).ok()?;
        let (_, key) = message.subject.rsplit_once('.')?;
        let stored = u64::try_from(message.time.unix_timestamp_nanos() / 1000).ok()?;
        let schedule = Schedule(rule);
        let next = match schedule.is_regular() {
            true => schedule.next(stored, micros_since_1970())?,
            false => schedule.first(stored)?,
        };
        Some(Scheduled { key: key.to_owned(), schedule, next: time(next), channel })
    }

    fn check_version(&self, (needs, least): (&'static str, (u64, u64))) -> Result<(), JetStreamError> {
        let version = self.0.connection.client.server_info().version;
        if major_minor(&version) < least { Err(JetStreamError::TooOld { version, needs }) } else { Ok(()) }
    }

    /// Makes the stream, and makes it a source of the stream of the waves.
    async fn make_ready(&self) -> Result<(), JetStreamError> {
        let ScheduleStream { connection, subjects, replicas, .. } = &*self.0;
        let name = subjects.schedule_stream();
        let wanted = schedule_stream(subjects, *replicas);
        let config = match stream_settings(connection, &name).await {
            Err(failure) if failure.is(ErrorCode::STREAM_NOT_FOUND) => {
                let made =
                    connection.api::<IgnoredAny>(&name, format!("STREAM.CREATE.{name}"), &wanted).await;
                match made {
                    // Another process may have made it meanwhile.
                    Err(failure) if !failure.is(ErrorCode::STREAM_NAME_EXIST) => Err(failure),
                    _ => stream_settings(connection, &name).await,
                }
            }
            config => config,
        };
        let failed = |failure: Failure| failure.while_doing("make the stream", &name);
        let config = config.map_err(failed)?;
        for setting in ["subjects", "retention", "allow_msg_schedules"] {
            if config.get(setting) != wanted.get(setting) {
                return Err(JetStreamError::OtherSettings {
                    kind: "stream",
                    name,
                    setting,
                    found: config.get(setting).map_or_else(|| "unset".to_owned(), Value::to_string),
                    wanted: wanted.get(setting).map(Value::to_string).unwrap_or_default(),
                });
            }
        }
        if config.get("num_replicas").and_then(Value::as_u64) < Some(*replicas as u64) {
            let changes = [("num_replicas", (*replicas).into())];
            change_stream(connection, &name, changes).await.map_err(failed)?;
        }
        let waves = subjects.stream();
        let failed = |failure: Failure| failure.while_doing("add the source of schedules to", waves);
        let config = stream_settings(connection, waves).await.map_err(failed)?;
        let mut sources = config.get("sources").and_then(Value::as_array).cloned().unwrap_or_default();
        if sources.iter().any(|source| source.get("name").and_then(Value::as_str) == Some(&*name)) {
            return Ok(());
        }
        let moved = json!({ "src": subjects.due(">"), "dest": subjects.waves() });
        sources.push(json!({ "name": name, "subject_transforms": [moved] }));
        change_stream(connection, waves, [("sources", sources.into())]).await.map_err(failed)
    }
}

/// The first two numbers of a version.
fn major_minor(version: &str) -> (u64, u64) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for old in ["2.9.25", "2.11.4", "", "unknown"] {
            assert!(major_minor(old) < ONCE.1, "{old}");
        }
        for new in ["2.12.0", "2.15.1", "3.0.0-RC.1"] {
            assert!(major_minor(new) >= ONCE.1, "{new}");
        }
        assert!(major_minor("2.12.9") < REGULARLY.1 && major_minor("2.14.0") >= REGULARLY.1);
    }
}
