//! Messages that the client of NATS cannot parse, and takes for a broken connection: from anybody, on subjects that a
//! process hears. One breaks a connection, and from then on a filter leaves them out.

mod attacker;
mod long;

use std::time::Duration;

use aether::nats::NatsLogin;
use aether::nats::NatsOptions;
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Vibrator};
use nkeys::KeyPair as Nkey;
use tempfile::TempDir;

use crate::login::authority::{Authority, secret};
use crate::settling::flushed;
use attacker::{Attacker, HEADERS, forms};

/// A bound for what takes milliseconds on an idle machine. No test waits for it to elapse.
const LONG: Duration = Duration::from_secs(60);

/// A process that hears `odd.>`, and one that nothing odd reaches.
struct Scene {
    hearing: Aether,
    ear: Vibrator,
    sender: Vibrator,
    attacker: Attacker,
    emitted: u64,
}

impl Scene {
    async fn new(url: &str, options: &NatsOptions) -> Self {
        let connect = async || aether::builder().url(url).options(options.clone()).connect().await.unwrap();
        let hearing = connect().await;
        let ear = Vibrator::create("ear", &hearing).await.unwrap();
        ear.resonate_on("odd.>").await.unwrap();
        let options = options.clone().discovery(false);
        let speaking = aether::builder().url(url).options(options.clone()).connect().await.unwrap();
        let sender = Vibrator::create("sender", &speaking).await.unwrap();
        let attacker = Attacker::connect(url.split(',').next().unwrap(), &options).await;
        Self { hearing, ear, sender, attacker, emitted: 0 }
    }

    /// Waits until the hearing process has been connected so often, and hears again.
    async fn is_back(&self, connects: u64) {
        let mut connection = self.hearing.connection();
        let back = async {
            while self.hearing.status().connects < connects || !self.hearing.status().connected {
                connection.changed().await.unwrap();
            }
            // Its subscriptions are in force again.
            flushed(&self.hearing).await;
        };
        tokio::time::timeout(LONG, back).await.expect("the connection is back");
    }

    /// Everything that the server was given before has been seen.
    async fn hears(&mut self, waves: u64) {
        for _ in 0..waves {
            self.emitted += 1;
            self.sender.emit_wave("odd.even", &self.emitted).await.unwrap();
        }
        for number in self.emitted - waves + 1..=self.emitted {
            let wave = tokio::time::timeout(LONG, self.ear.receive()).await;
            let status = || format!("no wave {number} of {}: {:?}", self.emitted, self.hearing.status());
            let wave = wave.unwrap_or_else(|_| panic!("{}", status())).unwrap();
            assert_eq!(wave.json::<u64>().unwrap(), number);
        }
    }

    async fn break_once(&mut self) {
        self.attacker.publish(&forms("aether.odd.first")[..1], 1).await;
        self.is_back(2).await;
    }

    async fn withstands(&mut self, times: usize) {
        self.hears(10).await;
        self.break_once().await;
        let malformed = self.hearing.status().malformed;
        let forms = forms("aether.odd.x");
        self.attacker.publish(&forms, times).await;
        self.hears(100).await;
        let status = self.hearing.status();
        assert_eq!((status.connects, status.connected, status.lost_upstream), (2, true, 0), "{status:?}");
        assert_eq!(status.malformed - malformed, (forms.len() * times) as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_odd_messages_of_each_form_break_a_connection_once() {
    let server = NatsServer::start().await.unwrap();
    Scene::new(&server.url(), &NatsOptions::default()).await.withstands(1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_questions_of_service_discovery_break_a_connection_once() {
    let server = NatsServer::start().await.unwrap();
    let mut scene = Scene::new(&server.url(), &NatsOptions::default()).await;
    let forms = &forms("$SRV.PING")[..HEADERS.len()];
    scene.attacker.publish(&forms[..1], 1).await;
    scene.is_back(2).await;
    scene.attacker.publish(forms, 1000).await;
    scene.hears(100).await;
    let status = scene.hearing.status();
    assert_eq!((status.connects, status.malformed, status.lost_upstream), (2, 8000, 0), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_messages_are_left_out_over_tls_with_a_certificate_of_the_client() {
    let authority = Authority::new();
    let server = NatsServer::start_with(authority.tls("verify: true")).await.unwrap();
    Scene::new(&server.url(), &authority.certified()).await.withstands(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_messages_are_left_out_whatever_the_login() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    let keys = Nkey::new_user();
    secret(&file, &keys.seed().unwrap());
    let token = folder.path().join("token");
    secret(&token, "right");
    let password = NatsLogin::PasswordFile { user: "shop".to_owned(), file: token.clone() };
    for (authorization, login) in [
        (format!("{{ users: [{{ nkey: {} }}] }}", keys.public_key()), NatsLogin::NkeyFile(file)),
        ("{ users: [{ user: shop, password: right }] }".to_owned(), password),
        ("{ token: right }".to_owned(), NatsLogin::TokenFile(token)),
    ] {
        let options = ServerOptions::default().setting("authorization", authorization);
        let server = NatsServer::start_with(options).await.unwrap();
        Scene::new(&server.url(), &NatsOptions::default().login(login)).await.withstands(10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_goes_to_the_next_server_and_leaves_out_odd_messages_there() {
    let mut first = NatsServer::start().await.unwrap();
    let mut second = NatsServer::start().await.unwrap();
    second.kill().await.unwrap();
    let options = NatsOptions::default();
    let mut scene = Scene::new(&format!("{},{}", first.url(), second.url()), &options).await;
    second.restart().await.unwrap();
    scene.withstands(10).await;
    first.kill().await.unwrap();
    scene.is_back(3).await;
    let (hearing, ear) = (scene.hearing, scene.ear);
    // The others may still be away.
    scene = Scene { hearing, ear, ..Scene::new(&second.url(), &options).await };
    let malformed = scene.hearing.status().malformed;
    let forms = forms("aether.odd.x");
    scene.attacker.publish(&forms, 10).await;
    scene.hears(100).await;
    let status = scene.hearing.status();
    assert_eq!((status.connects, status.malformed - malformed), (3, 100), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_filter_had_nothing_to_leave_out_is_followed_by_a_direct_one() {
    let mut server = NatsServer::start().await.unwrap();
    let mut scene = Scene::new(&server.url(), &NatsOptions::default()).await;
    scene.break_once().await;
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    scene.is_back(3).await;
    // It is direct: another odd message breaks it, and no more than one.
    scene.attacker = Attacker::connect(&server.url(), &NatsOptions::default()).await;
    scene.attacker.publish(&forms("aether.odd.x")[..1], 1).await;
    scene.is_back(4).await;
    scene.attacker.publish(&forms("aether.odd.x"), 10).await;
    let sending = aether::connect(&server.url()).await.unwrap();
    scene.sender = Vibrator::create("sender", &sending).await.unwrap();
    scene.hears(10).await;
    let status = scene.hearing.status();
    assert_eq!((status.connects, status.malformed), (4, 100), "{status:?}");
}
