//! The streams of a log, and checks of what exists already. Nothing that exists is changed.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, Config as ConsumerConfig};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
};

use super::connection::{Connection, Failure};
use super::error::JetStreamError;
use super::options::JetStreamOptions;
use super::subjects::Subjects;

fn limit(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

/// The stream of the waves. It refuses waves when it is full, and drops none.
pub(crate) fn stream(subjects: &Subjects, replicas: usize, options: &JetStreamOptions) -> Config {
    let max_age = options.max_age.unwrap_or_default();
    // The server allows no longer window than the age.
    let duplicate_window = match options.max_age {
        Some(age) => options.duplicate_window.min(age),
        None => options.duplicate_window,
    };
    Config {
        name: subjects.stream().to_owned(),
        description: Some("waves of durable channels of Aether".to_owned()),
        subjects: vec![subjects.waves()],
        max_bytes: limit(options.max_bytes),
        max_messages: limit(options.max_waves),
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_age,
        duplicate_window,
        discard: DiscardPolicy::New,
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: replicas,
        ..Config::default()
    }
}

/// The stream of the parts of waves, with the settings of the stream of the waves.
pub(crate) fn parts_stream(subjects: &Subjects, waves: Config) -> Config {
    Config {
        name: subjects.parts_stream(),
        description: Some("parts of large waves of Aether".to_owned()),
        subjects: vec![format!("{}.>", subjects.parts())],
        // Parts are older than their wave, and it may be delivered as long as it is there.
        max_age: match waves.max_age {
            Duration::ZERO => Duration::ZERO,
            age => age + Duration::from_secs(3600),
        },
        max_messages: -1,
        max_message_size: -1,
        max_consumers: -1,
        sources: None,
        ..waves
    }
}

/// The stream of dead letters, and of the failures of waves that are delivered again: the last message of each subject.
pub(crate) fn side_stream(subjects: &Subjects, replicas: usize) -> Config {
    Config {
        name: subjects.side_stream(),
        description: Some("dead letters of Aether, and failures before".to_owned()),
        subjects: subjects.beside(),
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: 1,
        max_consumers: -1,
        duplicate_window: Duration::from_secs(120),
        discard: DiscardPolicy::Old,
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: replicas,
        ..Config::default()
    }
}

/// The stream of the waves for later. It drops a message once the stream of the waves has taken it over.
pub(crate) fn schedule_stream(subjects: &Subjects, replicas: usize) -> serde_json::Value {
    serde_json::json!({
        "name": subjects.schedule_stream(),
        "description": "waves of Aether that are delivered later",
        "subjects": subjects.schedules(),
        "retention": "workqueue",
        "discard": "old",
        "storage": "file",
        "num_replicas": replicas,
        "max_bytes": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_consumers": -1,
        "duplicate_window": 120_000_000_000_u64,
        // Version 2.12 of the server has it; no stream that refuses waves when it is full may.
        "allow_msg_schedules": true,
    })
}

/// Makes the stream, or checks the one that exists.
pub(crate) async fn ensure_stream(connection: &Connection, wanted: &Config) -> Result<Info, JetStreamError> {
    let name = &wanted.name;
    let info = async || connection.api::<Info>(name, format!("STREAM.INFO.{name}"), &()).await;
    let info = match info().await {
        Err(failure) if failure.is(ErrorCode::STREAM_NOT_FOUND) => {
            let made = connection.api::<Info>(name, format!("STREAM.CREATE.{name}"), wanted).await;
            match made {
                // Another process has made it meanwhile.
                Err(failure) if failure.is(ErrorCode::STREAM_NAME_EXIST) => info().await,
                made => made,
            }
        }
        info => info,
    };
    let info = info.map_err(|failure| match failure {
        Failure::Server(source)
            if [ErrorCode::CLUSTER_NO_PEERS, ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED]
                .contains(&source.error_code()) =>
        {
            let (stream, replicas) = (name.clone(), wanted.num_replicas);
            JetStreamError::TooFewServers { stream, replicas, source: Arc::new(source) }
        }
        failure => failure.while_doing("make the stream", name),
    })?;
    check_stream(wanted, &info.config)?;
    Ok(info)
}

/// Compares one setting.
fn same<T: PartialEq + Debug>(
    kind: &'static str,
    name: &str,
    setting: &'static str,
    found: T,
    wanted: T,
) -> Result<(), JetStreamError> {
    if found == wanted {
        return Ok(());
    }
    let (found, wanted) = (format!("{found:?}"), format!("{wanted:?}"));
    Err(JetStreamError::OtherSettings { kind, name: name.to_owned(), setting, found, wanted })
}

/// Compares the settings of a stream that a log depends on.
pub(crate) fn check_stream(wanted: &Config, found: &Config) -> Result<(), JetStreamError> {
    let name = &*wanted.name;
    macro_rules! same {
        ($($setting:literal $field:ident,)*) => {
            $(same("stream", name, $setting, &found.$field, &wanted.$field)?;)*
        };
    }
    same! {
        "subjects" subjects,
        "storage" storage,
        "num_replicas" num_replicas,
        "retention" retention,
        "discard" discard,
        "max_bytes" max_bytes,
        "max_msgs" max_messages,
        "max_msgs_per_subject" max_messages_per_subject,
        "max_age" max_age,
        "duplicate_window" duplicate_window,
        "no_ack" no_ack,
        "sealed" sealed,
        "mirror" mirror,
    }
    // Such a server acknowledges what it has not written.
    let is_async = |config: &Config| config.persist_mode == Some(PersistenceMode::Async);
    same("stream", name, "persist_mode = async", is_async(found), is_async(wanted))
}

/// Compares the settings of a consumer that deliveries depend on.
pub(crate) fn check_consumer(wanted: &ConsumerConfig, found: &ConsumerConfig) -> Result<(), JetStreamError> {
    let name = wanted.durable_name.as_deref().unwrap_or_default();
    macro_rules! same {
        ($($setting:literal $field:ident,)*) => {
            $(same("consumer", name, $setting, &found.$field, &wanted.$field)?;)*
        };
    }
    let is_explicit = |config: &ConsumerConfig| config.ack_policy == AckPolicy::Explicit;
    same("consumer", name, "ack_policy = explicit", is_explicit(found), is_explicit(wanted))?;
    same! {
        "priority_policy" priority_policy,
        "priority_groups" priority_groups,
        "priority_timeout" priority_timeout,
        "deliver_subject" deliver_subject,
        "ack_wait" ack_wait,
        "max_deliver" max_deliver,
        "max_ack_pending" max_ack_pending,
        "backoff" backoff,
        "headers_only" headers_only,
        "inactive_threshold" inactive_threshold,
    }
    Ok(())
}
