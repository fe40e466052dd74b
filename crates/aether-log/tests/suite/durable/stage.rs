//! Logs of both kinds, for the tests of this folder.

use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability, Receipt, Wave};
use aether_log::{Consumer, ConsumerOptions, Delivery, DurableLog, JetStreamLog, JetStreamOptions, Log};
use tempfile::TempDir;

/// Where a log is kept. It can be opened again.
pub(crate) enum Place {
    Folder(TempDir),
    JetStream { server: Box<NatsServer>, _streams: TempDir },
}

/// Longer than a busy machine keeps a process waiting: the server delivers no wave again that is held.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(20);

pub(crate) fn options() -> JetStreamOptions {
    JetStreamOptions::default().ack_wait(ACK_WAIT).patience(Duration::from_secs(60))
}

impl Place {
    pub(crate) fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn jetstream() -> Self {
        let streams = tempfile::tempdir().unwrap();
        let server = ServerOptions::default().jetstream(streams.path());
        let server = NatsServer::start_with(server).await.unwrap();
        Self::JetStream { server: Box::new(server), _streams: streams }
    }

    pub(crate) async fn open(&self) -> DurableLog {
        match self {
            Self::Folder(folder) => {
                let log = Log::builder(folder.path()).channels("orders.>", Durability::Stored).unwrap();
                log.channels("notes.>", Durability::Stored).unwrap().open().unwrap().into()
            }
            Self::JetStream { server, .. } => {
                let log = JetStreamLog::builder(server.url(), "shop").options(options());
                let log = log.channels("orders.>", Durability::Stored).unwrap();
                log.channels("notes.>", Durability::Stored).unwrap().open().await.unwrap().into()
            }
        }
    }
}

pub(crate) async fn connect(log: &DurableLog) -> Aether {
    log.connect(aether::builder().url("local:")).await.unwrap()
}

pub(crate) fn order(text: impl Into<String>, amplitude: f32) -> Wave {
    Wave::builder("orders.created").amplitude(amplitude).text(text.into()).build().unwrap()
}

pub(crate) fn quick() -> ConsumerOptions {
    ConsumerOptions::default().pauses(Duration::from_millis(1), Duration::from_millis(4))
}

pub(crate) fn position(receipt: &Receipt) -> u64 {
    receipt.stored.unwrap().position.get()
}

pub(crate) async fn receive(consumer: &Consumer) -> Delivery {
    let within = tokio::time::timeout(Duration::from_secs(180), consumer.receive());
    within.await.expect("a wave within three minutes").unwrap()
}

/// Waits for a wave until something is so. None may come. Giving up happens meanwhile, and is not cut off, however long it
/// takes.
pub(crate) async fn none_until(consumer: &Consumer, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        delivery = consumer.receive() => panic!("nothing is left: {delivery:?}"),
        () = waiting => {}
    }
}

pub(crate) fn text(delivery: &Delivery) -> String {
    delivery.wave().text().unwrap().to_owned()
}
