//! Two processes with one set of keys, and a hostile client that may publish and subscribe to everything.

use std::time::Duration;

use aether::nats::NatsOptions;
use aether::seal::{KeySource, SealKeys};
use aether_conformance::NatsServer;
use aether_core::{Aether, Vibrator, Wave};
use async_nats::Message;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::timeout;

/// A bound for what takes milliseconds on an idle machine. No test waits for it to elapse.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

pub(crate) fn options(keys: impl Into<KeySource>) -> NatsOptions {
    NatsOptions::default().keys(keys)
}

pub(crate) async fn connect(url: &str, options: NatsOptions) -> Aether {
    aether::builder().url(url).options(options).connect().await.unwrap()
}

pub(crate) async fn next(ear: &mut Vibrator) -> Wave {
    within("the next wave", ear.receive()).await.expect("a wave")
}

pub(crate) struct Scene {
    pub(crate) server: NatsServer,
    pub(crate) keys: SealKeys,
    pub(crate) here: Aether,
    pub(crate) there: Aether,
    pub(crate) shop: Vibrator,
    pub(crate) ear: Vibrator,
    pub(crate) enemy: Enemy,
}

impl Scene {
    /// `ear` in `there` hears `shop.*`, which `shop` in `here` emits.
    pub(crate) async fn new() -> Self {
        let server = NatsServer::start().await.unwrap();
        // Before everything else, so that it sees everything.
        let enemy = Enemy::new(&server).await;
        let keys = SealKeys::generate().unwrap();
        let here = connect(&server.url(), options(keys.clone())).await;
        let there = connect(&server.url(), options(keys.clone())).await;
        let ear = Vibrator::create("ear", &there).await.unwrap();
        ear.resonate_on("shop.*").await.unwrap();
        let shop = Vibrator::create("shop", &here).await.unwrap();
        Self { server, keys, here, there, shop, ear, enemy }
    }

    /// Everything that the enemy has published is behind, and what the receiver got of it: nothing but this wave.
    pub(crate) async fn only_the_next_wave_arrives(&mut self) {
        self.enemy.fence().await;
        self.shop.emit_bytes("shop.mark", "").await.unwrap();
        let wave = next(&mut self.ear).await;
        assert_eq!(wave.channel().as_str(), "shop.mark", "{wave:?}");
        assert!(wave.age() < Duration::from_secs(30), "{wave:?}");
    }

    /// Messages that the receiving process refused, by reason: plain, unknown key, tampered, replayed, stale.
    pub(crate) fn refused(&self) -> [u64; 5] {
        let status = self.there.status();
        let refused = [
            status.refused_plain,
            status.refused_unknown_key,
            status.refused_tampered,
            status.refused_replayed,
            status.refused_stale,
        ];
        assert_eq!(status.refused(), refused.iter().sum::<u64>());
        refused
    }
}

/// A client without keys.
pub(crate) struct Enemy {
    pub(crate) client: async_nats::Client,
    seen: async_nats::Subscriber,
}

impl Enemy {
    pub(crate) async fn new(server: &NatsServer) -> Self {
        let client = async_nats::connect(server.url()).await.unwrap();
        let seen = client.subscribe(">").await.unwrap();
        let mut enemy = Self { client, seen };
        enemy.fence().await;
        enemy
    }

    pub(crate) async fn publish(&self, subject: &str, payload: impl Into<Bytes>) {
        self.client.publish(subject.to_owned(), payload.into()).await.unwrap();
    }

    /// The next message on a subject with this prefix.
    pub(crate) async fn overhear(&mut self, beginning: &str) -> Message {
        let overhearing = async {
            loop {
                let message = self.seen.next().await.unwrap();
                if message.subject.starts_with(beginning) {
                    return message;
                }
            }
        };
        within(&format!("a message on {beginning}"), overhearing).await
    }

    /// Waits until the server has processed everything that the enemy has published. Returns what it saw meanwhile.
    pub(crate) async fn fence(&mut self) -> Vec<Message> {
        self.publish("fence", "").await;
        let mut seen = Vec::new();
        let looking = async {
            loop {
                match self.seen.next().await.unwrap() {
                    message if message.subject.as_str() == "fence" => return,
                    message => seen.push(message),
                }
            }
        };
        within("the fence", looking).await;
        seen
    }
}
