//! `aether log consumers` with the address of a NATS server: the logs in JetStream, and how many waves wait for whom.

use std::time::Duration;

use aether_log::{JetStreamView, StreamConsumerStanding, StreamEffort, StreamStanding};
use aether_service::ConfigArgs;

use crate::error::{CommandError, LogError};
use crate::output::{Output, stderr_line};

/// More than a person reads. The gateway shows fewer.
const MOST_LOGS: usize = 10_000;
const MOST_CONSUMERS: usize = 100_000;
const TIME: Duration = Duration::from_secs(60);

pub(super) async fn consumers(url: &str, mut args: ConfigArgs) -> Result<(), CommandError> {
    args.medium.url = Some(url.to_owned());
    let config = crate::config::load(&args)?;
    let medium = config.settings().medium.args();
    let view =
        JetStreamView::open(&medium.medium, medium.nats("aether-log")).await.map_err(LogError::from)?;
    let effort = StreamEffort::default().max_logs(MOST_LOGS).max_consumers(MOST_CONSUMERS).time(TIME);
    let standing = view.standing(effort).await.map_err(LogError::from)?;
    let mut output = Output::stdout();
    if standing.logs.is_empty() {
        output.line("no logs in JetStream")?;
    }
    let mut unread = None;
    for (name, log) in standing.logs {
        match log {
            Ok(log) => {
                output.line(log_line(&name, &log))?;
                for consumer in &log.consumers {
                    output.line(consumer_line(&name, consumer))?;
                }
                if log.more_consumers > 0 {
                    stderr_line(format_args!("{name}: {} more consumers were not read", log.more_consumers));
                }
            }
            // The others are printed all the same.
            Err(error) => unread = Some(error),
        }
    }
    if standing.more_logs > 0 {
        stderr_line(format_args!("{} more logs were not read", standing.more_logs));
    }
    unread.map_or(Ok(()), |error| Err(LogError::from(error).into()))
}

fn log_line(name: &str, log: &StreamStanding) -> String {
    let StreamStanding { first, last, waves, bytes, replicas, .. } = log;
    match waves {
        0 => format!("{name}: no waves, {replicas} replicas"),
        _ => {
            format!(
                "{name}: {waves} waves at positions {first} to {last}, {bytes} bytes, {replicas} replicas"
            )
        }
    }
}

fn consumer_line(log: &str, consumer: &StreamConsumerStanding) -> String {
    let StreamConsumerStanding { name, lag, in_flight, redelivered, delivered, position, .. } = consumer;
    let pattern = consumer.pattern.as_ref().map_or("(no log of Aether)", |pattern| pattern.as_str());
    let counted = |number: Option<u64>| number.map_or_else(|| "many".to_owned(), |number| number.to_string());
    let (retrying, dead) = (counted(consumer.retrying), counted(consumer.dead));
    let last = match consumer.last_acknowledged {
        Some(at) => format!(", last acknowledged at {}", humantime::format_rfc3339_seconds(at)),
        None => String::new(),
    };
    format!(
        "{log}/{name} {pattern}: {lag} wait, {in_flight} in flight, {redelivered} redelivered, {retrying} retrying, {dead} \
         given up, delivered up to {delivered}, settled up to {position}{last}"
    )
}
