//! Forged messages in the name of another peer: the effect of forged positions, times and confirmations is bounded, and
//! refused ones are counted.

use std::time::{Duration, Instant};

use aether_conformance::NatsServer;
use aether_core::{Aether, InboxOptions, Kind, Vibrator, Wave};
use aether_link::wire::{Position, Sender, encode_at};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::settling::flushed;

const PATIENCE: Duration = Duration::from_secs(60);

/// A sender, a receiver that can be disconnected, and a client that forges frames.
struct Scene {
    server: NatsServer,
    proxy: Proxy,
    here: Aether,
    there: Aether,
    shop: Vibrator,
    ear: Vibrator,
    forger: async_nats::Client,
    /// The messages seen by the forger.
    overheard: async_nats::Subscriber,
}

async fn next(ear: &mut Vibrator) -> Wave {
    timeout(PATIENCE, ear.receive()).await.expect("a wave in time").expect("a wave")
}

impl Scene {
    async fn new() -> Self {
        let server = NatsServer::start().await.unwrap();
        let proxy = Proxy::new(server.port()).await.unwrap();
        let here = aether::connect(&server.url()).await.unwrap();
        let there = aether::connect(&proxy.url()).await.unwrap();
        let inbox = InboxOptions::interactive().max_waves(1 << 20);
        let ear = Vibrator::builder("ear").inbox(inbox).create(&there).await.unwrap();
        // One subscription, so that everything arrives in one order.
        ear.resonate_on("shop.*").await.unwrap();
        let shop = Vibrator::create("shop", &here).await.unwrap();
        let forger = async_nats::connect(server.url()).await.unwrap();
        let overheard = forger.subscribe(">").await.unwrap();
        let mut scene = Self { server, proxy, here, there, shop, ear, forger, overheard };
        scene.fence().await;
        scene
    }

    async fn emit(&self, waves: usize) {
        for _ in 0..waves {
            self.shop.emit_bytes("shop.load", "x").await.unwrap();
        }
        flushed(&self.here).await;
    }

    /// The next message seen by the forger on a subject with this prefix.
    async fn overhear(&mut self, beginning: &str) -> async_nats::Message {
        let overheard = async {
            loop {
                let message = self.overheard.next().await.unwrap();
                if message.subject.starts_with(beginning) {
                    return message;
                }
            }
        };
        timeout(PATIENCE, overheard).await.unwrap_or_else(|_| panic!("no message seen on {beginning}"))
    }

    /// Waits until the server has processed everything sent by the forger.
    async fn fence(&mut self) {
        self.forger.publish("fence", "".into()).await.unwrap();
        self.overhear("fence").await;
    }

    /// The node number in the sender's frames.
    async fn node(&mut self) -> u64 {
        let frame = self.overhear("aether.shop.load").await.payload;
        u64::from_le_bytes(frame[4..12].try_into().unwrap())
    }

    /// Forges a frame without waves in the sender's name. It reaches the receiver before any wave emitted afterwards.
    async fn forge(&mut self, sender: Sender, at: Option<Position>) {
        let frame = encode_at(sender, at, None, &[], Instant::now()).unwrap();
        self.forger.publish("aether.shop.load", frame).await.unwrap();
        self.fence().await;
    }

    /// Waits until the receiver has everything sent so far.
    async fn mark(&mut self) {
        self.shop.emit_bytes("shop.mark", "").await.unwrap();
        while next(&mut self.ear).await.channel().as_str() != "shop.mark" {}
    }
}

fn micros_since_1970() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_position_hides_no_loss_and_adds_no_impossible_one() {
    let mut scene = Scene::new().await;
    scene.emit(10).await;
    let node = scene.node().await;
    let sender = Sender { node, sent_micros: micros_since_1970() };
    for (stream, first) in [(u64::MAX, 0), (1 << 62, 0), (7, 0), (8, 0), (0, 1 << 40), (0, u64::MAX)] {
        scene.forge(sender, Some(Position { stream, first, age_micros: 0 })).await;
    }
    scene.mark().await;
    assert_eq!(scene.there.status().implausible, 4, "{:?}", scene.there.status());
    scene.proxy.cut().await;
    scene.emit(100).await;
    scene.proxy.mend();
    // Waits for the connection.
    let probe = Vibrator::builder("probe").hear_own(true).create(&scene.there).await.unwrap();
    probe.resonate_on("probe").await.unwrap();
    scene.emit(10).await;
    scene.mark().await;
    let ledger = scene.ear.ledger();
    assert_eq!((ledger.delivered, ledger.lost_upstream), (22, 100), "{ledger:?}");
    // Three frames whose losses would add up to trillions of waves.
    for number in 1..4_u64 {
        for stream in [0, u64::MAX] {
            scene.forge(sender, Some(Position { stream, first: number << 40, age_micros: 0 })).await;
        }
    }
    scene.mark().await;
    assert_eq!(scene.ear.ledger().lost_upstream, 100);
    assert_eq!(scene.there.status().implausible, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_time_ages_no_wave_of_the_sender() {
    let mut scene = Scene::new().await;
    scene.emit(10).await;
    let node = scene.node().await;
    scene.mark().await;
    let forged = [590_u64, 590, 590, 300, 300, 300];
    for ahead in forged {
        let sender = Sender { node, sent_micros: micros_since_1970() + ahead * 1_000_000 };
        let at = Position { stream: 0, first: 0, age_micros: 0 };
        scene.forge(sender, Some(at)).await;
        scene.shop.emit_bytes("shop.load", "x").await.unwrap();
        let wave = next(&mut scene.ear).await;
        assert!(wave.age() < Duration::from_secs(60), "{wave:?}");
    }
    scene.emit(100).await;
    for _ in 0..100 {
        let wave = next(&mut scene.ear).await;
        assert!(wave.age() < Duration::from_secs(60), "{wave:?}");
    }
    assert_eq!(scene.there.status().implausible, forged.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_marker_and_a_forged_server_status_are_refused() {
    let mut scene = Scene::new().await;
    let command = || Wave::builder("shop.load").kind(Kind::Command).bytes("x").build().unwrap();
    scene.shop.emit(command()).await.unwrap();
    // Any subscriber of a channel can see the subject on which the server reports a missing receiver.
    let reply = scene.overhear("aether-ask.shop.load").await.reply.unwrap();
    let (inbox, token) = reply.as_str().rsplit_once('.').unwrap();
    let real = scene.overhear(&format!("{inbox}.marker")).await.payload;
    // Everybody who hears the probe of a command knows its token.
    let made_up: [&[u8]; 5] =
        [&u64::MAX.to_le_bytes(), b"ff-1", b"", b"ffffffffffffffff-ffffffffffffffff", token.as_bytes()];
    for marker in made_up {
        scene.forger.publish(format!("{inbox}.marker"), marker.to_vec().into()).await.unwrap();
    }
    // Repeating what the server has really processed is harmless.
    scene.forger.publish(format!("{inbox}.marker"), real).await.unwrap();
    scene.fence().await;
    let mut raw = TcpStream::connect(("127.0.0.1", scene.server.port())).await.unwrap();
    raw.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").await.unwrap();
    for number in 1..20 {
        let headers = "NATS/1.0 503\r\n\r\n";
        let length = headers.len();
        let word = format!("HPUB {inbox}.{number:x} {length} {length}\r\n{headers}\r\n");
        raw.write_all(word.as_bytes()).await.unwrap();
    }
    raw.write_all(format!("PUB {inbox}.marker 4\r\nlast\r\n").as_bytes()).await.unwrap();
    // The server forwards one client's messages in order.
    while scene.overhear(&format!("{inbox}.marker")).await.payload != "last" {}
    for _ in 0..10 {
        scene.shop.emit(command()).await.unwrap();
    }
    flushed(&scene.here).await;
    assert_eq!(scene.here.status().implausible, made_up.len() as u64 + 19 + 1);
    for _ in 0..11 {
        next(&mut scene.ear).await;
    }
    assert_eq!(scene.here.status().unconfirmed, 0);
    assert_eq!(scene.here.echo_ledger().reflected, 0, "all commands were received");
}
