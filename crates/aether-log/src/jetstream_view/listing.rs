//! The requests: which streams are logs of Aether, and what the server tells of one. All of them only read.

use std::collections::{BTreeMap, HashMap};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::Info as ConsumerInfo;
use async_nats::jetstream::stream::Info;
use serde::Deserialize;
use serde_json::json;

use super::standing::{Beside, StreamStanding};
use crate::jetstream::{Connection, Failure, JetStreamError, Subjects};

/// The maximum number of dead letters and noted failures of a log that are counted: the server names the subject of each.
const MOST_BESIDE: u64 = 10_000;

#[derive(Deserialize)]
struct Names {
    total: usize,
    #[serde(default)]
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Consumers {
    total: usize,
    #[serde(default)]
    consumers: Option<Vec<ConsumerInfo>>,
}

#[derive(Deserialize)]
struct SideInfo {
    state: SideState,
}

#[derive(Deserialize)]
struct SideState {
    messages: u64,
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}

/// The names of at most `most` streams with subjects of logs, and how many more there are.
pub(super) async fn names(
    connection: &Connection,
    most: usize,
) -> Result<(Vec<String>, usize), JetStreamError> {
    let mut names = Vec::new();
    loop {
        let content = json!({ "subject": "aether-log.>", "offset": names.len() });
        let page = connection.api::<Names>("all streams", "STREAM.NAMES".to_owned(), &content).await;
        let page = page.map_err(|failure| failure.while_doing("list", "the streams"))?;
        let before = names.len();
        names.extend(page.streams.unwrap_or_default());
        if names.len() >= most || names.len() == before || names.len() >= page.total {
            names.truncate(most);
            let more = page.total.saturating_sub(names.len());
            return Ok((names, more));
        }
    }
}

/// The state of a log and of at most `most` consumers; `None` if the stream does not belong to a log of Aether.
pub(super) async fn log(
    connection: &Connection,
    subjects: &Subjects,
    most: usize,
) -> Result<Option<StreamStanding>, JetStreamError> {
    let name = subjects.stream();
    let Some(info) = described(connection, subjects).await? else { return Ok(None) };
    let (consumers, beside) = tokio::join!(consumers(connection, name, most), beside(connection, subjects));
    let (consumers, more) = consumers?;
    Ok(Some(StreamStanding::new(&info, subjects, &consumers, more, beside?.as_ref())))
}

/// The server's description of a log; `None` if there is no such stream, or it does not belong to a log of Aether.
pub(super) async fn described(
    connection: &Connection,
    subjects: &Subjects,
) -> Result<Option<Info>, JetStreamError> {
    let name = subjects.stream();
    match connection.api::<Info>(name, format!("STREAM.INFO.{name}"), &()).await {
        Ok(info) => Ok(Some(info).filter(|info| info.config.subjects == [subjects.waves()])),
        Err(failure) if failure.is(ErrorCode::STREAM_NOT_FOUND) => Ok(None),
        Err(failure) => Err(failure.while_doing("describe the stream", name)),
    }
}

/// The durable consumers of a stream, and how many more there are.
async fn consumers(
    connection: &Connection,
    stream: &str,
    most: usize,
) -> Result<(Vec<ConsumerInfo>, usize), JetStreamError> {
    let (mut consumers, mut looked) = (Vec::new(), 0);
    loop {
        let content = json!({ "offset": looked });
        let page = connection.api::<Consumers>(stream, format!("CONSUMER.LIST.{stream}"), &content).await;
        let page = page.map_err(|failure| failure.while_doing("list the consumers of", stream))?;
        let of_page = page.consumers.unwrap_or_default();
        let is_last = of_page.is_empty() || looked + of_page.len() >= page.total;
        for consumer in of_page {
            if consumers.len() == most {
                break;
            }
            looked += 1;
            // Others are counts of a moment, and the readers of tools.
            if consumer.config.durable_name.is_some() {
                consumers.push(consumer);
            }
        }
        if is_last || consumers.len() == most {
            return Ok((consumers, page.total.saturating_sub(looked)));
        }
    }
}

/// The contents of the second stream of a log; `None` if there is too much to count, or the user may not look.
async fn beside(connection: &Connection, subjects: &Subjects) -> Result<Option<Beside>, JetStreamError> {
    let name = subjects.side_stream();
    let info = async |content: serde_json::Value| {
        connection.api::<SideInfo>(&name, format!("STREAM.INFO.{name}"), &content).await
    };
    let size = match info(json!({})).await {
        Ok(info) => info.state.messages,
        Err(failure) if failure.is(ErrorCode::STREAM_NOT_FOUND) => return Ok(Some(Beside::default())),
        // The log itself can be read.
        Err(Failure::Other(JetStreamError::NotPermitted { .. })) => return Ok(None),
        Err(failure) => return Err(failure.while_doing("describe the stream", &name)),
    };
    if size > MOST_BESIDE {
        return Ok(None);
    }
    let info = info(json!({ "subjects_filter": ">" })).await;
    let info = info.map_err(|failure| failure.while_doing("describe the stream", &name))?;
    let mut beside = Beside::default();
    for (subject, messages) in info.state.subjects.unwrap_or_default() {
        let mut tokens = subject.split('.');
        let (root, _, consumer) = (tokens.next(), tokens.next(), tokens.next());
        let numbers: &mut BTreeMap<_, _> = match root {
            Some("aether-log-dead") if Subjects::is_letter(&subject) => &mut beside.dead,
            Some("aether-log-failed") => &mut beside.failed,
            _ => continue,
        };
        *numbers.entry(consumer.unwrap_or_default().to_owned()).or_default() += messages;
    }
    Ok(Some(beside))
}
