//! The streams of a log, and checks of what exists already. Replicas and the window for copies are raised; nothing else that
//! exists is changed.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, Config as ConsumerConfig};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

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
pub(crate) fn schedule_stream(subjects: &Subjects, replicas: usize) -> Value {
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

/// Makes the stream, or checks the one that exists and raises what is too low: more replicas and a longer window for copies
/// harm no other program. Limits drop or refuse waves, so all programs must name the same.
pub(crate) async fn ensure_stream(connection: &Connection, wanted: &Config) -> Result<(), JetStreamError> {
    let name = &wanted.name;
    let info = async || connection.api::<Info>(name, format!("STREAM.INFO.{name}"), &()).await;
    let failed = |failure: Failure| match failure {
        Failure::Server(source)
            if [ErrorCode::CLUSTER_NO_PEERS, ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED]
                .contains(&source.error_code()) =>
        {
            let (stream, replicas) = (name.clone(), wanted.num_replicas);
            JetStreamError::TooFewServers { stream, replicas, source: Arc::new(source) }
        }
        failure => failure.while_doing("make the stream", name),
    };
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
    let found = info.map_err(failed)?.config;
    let raised = Config {
        num_replicas: found.num_replicas.max(wanted.num_replicas),
        duplicate_window: found.duplicate_window.max(wanted.duplicate_window),
        ..found.clone()
    };
    // Nothing is raised where another setting differs.
    check_stream(wanted, &raised)?;
    if raised != found {
        let Config { num_replicas: replicas, duplicate_window, .. } = raised;
        let window = u64::try_from(duplicate_window.as_nanos()).unwrap_or(u64::MAX);
        let changes = [("num_replicas", replicas.into()), ("duplicate_window", window.into())];
        change_stream(connection, name, changes).await.map_err(failed)?;
        tracing::info!(stream = name, replicas, ?duplicate_window, "the settings of the stream were raised");
    }
    Ok(())
}

#[derive(Deserialize)]
struct Described {
    config: Map<String, Value>,
}

/// The settings of a stream as the server has them, also those that this client does not know.
pub(super) async fn stream_settings(
    connection: &Connection,
    name: &str,
) -> Result<Map<String, Value>, Failure> {
    let info = connection.api::<Described>(name, format!("STREAM.INFO.{name}"), &()).await;
    info.map(|info| info.config)
}

/// Changes settings of a stream, and leaves the others as they are.
pub(super) async fn change_stream<const N: usize>(
    connection: &Connection,
    name: &str,
    changes: [(&'static str, Value); N],
) -> Result<(), Failure> {
    let mut config = stream_settings(connection, name).await?;
    config.extend(changes.map(|(setting, value)| (setting.to_owned(), value)));
    connection.api::<IgnoredAny>(name, format!("STREAM.UPDATE.{name}"), &config).await.map(drop)
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
        "retention" retention,
        "discard" discard,
        "max_bytes" max_bytes,
        "max_msgs" max_messages,
        "max_msgs_per_subject" max_messages_per_subject,
        "max_age" max_age,
        "no_ack" no_ack,
        "sealed" sealed,
        "mirror" mirror,
    }
    if found.num_replicas < wanted.num_replicas {
        same! { "num_replicas" num_replicas, }
    }
    if found.duplicate_window < wanted.duplicate_window {
        same! { "duplicate_window" duplicate_window, }
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
