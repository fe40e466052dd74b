//! The account of a consumer in JetStream, as far as the server tells it.

use async_nats::jetstream::consumer::{Config, DeliverPolicy, Info};
use serde_json::json;

use super::shared::StreamShared;
use crate::consumer::ledger::ConsumerLedger;
use crate::jetstream::{Connection, JetStreamError};

/// How often the numbers are asked for while they change meanwhile.
const TRIES: usize = 5;

/// The number of messages in a stream that match, from a position on. Only a consumer can tell; it is made for that and
/// goes away by itself.
async fn matching(
    connection: &Connection,
    stream: &str,
    filter: &str,
    from: u64,
) -> Result<u64, JetStreamError> {
    let name = format!("count-{:x}", fastrand::u64(..));
    let config = json!({
        "name": name, "deliver_policy": "by_start_sequence", "opt_start_seq": from.max(1), "ack_policy": "none",
        "filter_subject": filter, "replay_policy": "instant", "inactive_threshold": 5_000_000_000_u64,
        "mem_storage": true, "num_replicas": 1,
    });
    let subject = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
    let content = json!({ "stream_name": stream, "config": config });
    let made = connection.api::<Info>(stream, subject, &content).await;
    let info = made.map_err(|failure| failure.while_doing("count the waves of", stream))?;
    let deleted =
        connection.api::<serde_json::Value>(stream, format!("CONSUMER.DELETE.{stream}.{name}"), &()).await;
    drop(deleted);
    Ok(info.num_pending)
}

/// Where a consumer began.
fn began(config: &Config) -> u64 {
    match config.deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence } => start_sequence,
        _ => 1,
    }
}

impl StreamShared {
    pub(super) async fn info(&self) -> Result<Info, JetStreamError> {
        let subject = format!("CONSUMER.INFO.{}.{}", self.subjects.stream(), self.name);
        let info = self.connection.api::<Info>(&self.name, subject, &()).await;
        info.map_err(|failure| failure.while_doing("describe the consumer", &self.name))
    }

    /// The waves that the server does not count as acknowledged, and the dead letters.
    pub(super) async fn waiting(&self) -> Result<(u64, u64), JetStreamError> {
        let (info, subjects) = (self.info().await?, &self.subjects);
        let letters =
            matching(&self.connection, &subjects.side_stream(), &subjects.letters(&self.name), 1).await?;
        Ok((info.num_pending + info.num_ack_pending as u64, letters))
    }

    /// What is stored is counted in the stream, what waits and what is dead likewise; the rest is acknowledged.
    pub(super) async fn account(&self) -> Result<ConsumerLedger, JetStreamError> {
        let (connection, subjects) = (&self.connection, &self.subjects);
        let filter = subjects.filter(&self.pattern);
        let mut tries = 0;
        loop {
            let before = self.info().await?;
            let dead =
                matching(connection, &subjects.side_stream(), &subjects.letters(&self.name), 1).await?;
            let stored = matching(connection, subjects.stream(), &filter, began(&before.config)).await?;
            let info = self.info().await?;
            tries += 1;
            let is_settled = (before.num_pending, before.num_ack_pending, before.ack_floor)
                == (info.num_pending, info.num_ack_pending, info.ack_floor);
            if !is_settled && tries < TRIES {
                continue;
            }
            let expired = self.window.expired();
            let in_flight = self.window.in_flight().min(info.num_ack_pending as u64);
            let waiting = info.num_pending + info.num_ack_pending as u64 - in_flight;
            let acknowledged = stored.saturating_sub(in_flight + waiting + dead + expired);
            return Ok(ConsumerLedger { stored, acknowledged, in_flight, waiting, dead, expired });
        }
    }
}
