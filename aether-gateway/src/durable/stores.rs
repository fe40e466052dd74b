//! The dead letters of logs in JetStream: each log is a store, whose number is made from its name.

use aether_log::{DeadError, DeadWave, JetStreamError, StreamLetters};
use aether_service::letters::store_of_stream;

use super::Durable;
use super::lines::Store;
use super::streams::Streams;

impl Durable {
    /// The logs in JetStream with dead letters, and their stores.
    pub(crate) async fn stores_with_letters(&self) -> Vec<(String, u64)> {
        let Some(streams) = &self.streams else { return Vec::new() };
        let reading = streams.now().await;
        let has_letters = reading.logs().filter(|log| {
            log.held.as_ref().is_some_and(|held| held.dead_letters.is_none_or(|letters| letters > 0))
        });
        has_letters.map(|log| (log.name.clone(), store_of_stream(&log.name))).collect()
    }

    /// The log in JetStream that has this store, if it was there when the server was read last.
    pub(crate) fn stream_of_store(&self, store: u64) -> Option<String> {
        let reading = self.streams.as_ref()?.last();
        let log = reading
            .logs()
            .find(|log| log.store == Store::JetStream && store_of_stream(&log.name) == store)?;
        Some(log.name.clone())
    }

    /// The dead letters of a log in JetStream.
    ///
    /// # Errors
    /// [`JetStreamError`]: the gateway is on no NATS server, or that does not answer.
    pub(crate) async fn stream_letters(&self, log: &str) -> Result<StreamLetters, JetStreamError> {
        self.streams(log)?.view().await?.letters(log)
    }

    /// The oldest letters, at most `most`.
    ///
    /// # Errors
    /// [`DeadError`]: the server does not answer or refuses.
    pub(crate) async fn letters_of(&self, log: &str, most: usize) -> Result<Vec<DeadWave>, DeadError> {
        self.stream_letters(log).await?.after(0, most).await
    }

    pub(super) fn streams(&self, log: &str) -> Result<&Streams, JetStreamError> {
        self.streams.as_ref().ok_or_else(|| JetStreamError::NoLog { name: log.to_owned() })
    }
}
