//! Service discovery over a real NATS server: rosters, heartbeats, farewells, and the service protocol of NATS' own
//! tools.

use std::time::Duration;

use aether::nats::NatsOptions;
use aether_conformance::NatsServer;
use aether_core::Vibrator;
use aether_core::presence::{Announcement, Roster};
use futures::StreamExt;
use serde_json::Value;

/// A bound for what takes milliseconds on an idle machine; heartbeats take 12.5 s at most. No test waits for it to
/// elapse.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the roster lists the wanted vibrators.
async fn shown(roster: &mut Roster, wanted: &[&str]) -> Vec<Announcement> {
    let looking = async {
        loop {
            roster.changed().await;
            let present = roster.vibrators();
            if names(&present) == wanted {
                return present;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("the roster lists the wanted vibrators")
}

fn names(present: &[Announcement]) -> Vec<&str> {
    present.iter().map(|announced| announced.vibrator.name()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_lists_vibrators_elsewhere_until_they_leave() {
    let server = NatsServer::start().await.unwrap();
    let (here, elsewhere) =
        (aether::connect(&server.url()).await.unwrap(), aether::connect(&server.url()).await.unwrap());
    let early = Vibrator::create("early", &elsewhere).await.unwrap();
    early.resonate_in_group("jobs.*", "workers").await.unwrap();
    let hidden = Vibrator::builder("hidden").unlisted().create(&elsewhere).await.unwrap();
    hidden.resonate_on("jobs.*").await.unwrap();

    let mut roster = here.roster().await.unwrap();
    let present = shown(&mut roster, &["early"]).await;
    assert_eq!(present[0].vibrator, *early.source());
    assert_eq!(present[0].heard[0].pattern.as_str(), "jobs.*");
    assert_eq!(present[0].heard[0].group.as_deref(), Some("workers"));
    let late = Vibrator::create("late", &elsewhere).await.unwrap();
    late.resonate_on("a").await.unwrap();
    shown(&mut roster, &["early", "late"]).await;
    drop(late);
    shown(&mut roster, &["early"]).await;
    // Still alive but gone from rosters: closing announces that all leave, after announcements in progress.
    let (_, closed) = tokio::join!(early.resonate_on("another"), elsewhere.close());
    closed.unwrap();
    shown(&mut roster, &[]).await;
    drop((early, hidden));
}

#[tokio::test(flavor = "multi_thread")]
async fn vibrators_announce_themselves_periodically_and_ordinary_ones_do_not_receive_it() {
    let server = NatsServer::start().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut everything = Vibrator::create("everything", &aether).await.unwrap();
    everything.resonate_on(">").await.unwrap();
    everything.resonate_on("*").await.unwrap();
    let beating = Vibrator::create("beating", &aether).await.unwrap();
    beating.resonate_on("a").await.unwrap();
    let mut heard = client.subscribe("aether-ask._aether.vibrators").await.unwrap();
    client.flush().await.unwrap();
    // Nothing changes any more, so the heartbeat comes: both in one message. The last change may be announced late.
    let heartbeat = async {
        loop {
            let message = heard.next().await.unwrap();
            let text = String::from_utf8_lossy(&message.payload);
            if text.contains(r#""vibrator":"beating@"#) && text.contains(r#""vibrator":"everything@"#) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heartbeat).await.expect("a heartbeat");

    let other = Vibrator::create("other", &aether).await.unwrap();
    other.emit_wave("a.b", &1).await.unwrap();
    let wave = everything.receive().await.unwrap();
    assert_eq!(wave.channel().as_str(), "a.b", "nothing arrived before it");
}

/// The first answers to a request, by name.
async fn request(client: &async_nats::Client, subject: &str, answers: usize) -> Vec<Value> {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.expect("the server is up");
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.expect("the server is up");
    let mut all: Vec<Value> = Vec::new();
    for _ in 0..answers {
        let reply =
            tokio::time::timeout(PATIENCE, replies.next()).await.expect(subject).expect("the server is up");
        all.push(serde_json::from_slice(&reply.payload).expect("JSON"));
    }
    all.sort_by_key(|answer| answer["name"].to_string());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_tools_find_vibrators_as_services() {
    let server = NatsServer::start().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let shop = Vibrator::create("a shop", &aether).await.unwrap();
    shop.resonate_on("orders.>").await.unwrap();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_in_group("stock.*", "stock").await.unwrap();
    let unlisted = Vibrator::builder("unlisted").unlisted().create(&aether).await.unwrap();
    unlisted.resonate_on("stock.*").await.unwrap();

    let pong = request(&client, "$SRV.PING", 2).await;
    assert_eq!((&pong[0]["name"], &pong[1]["name"]), (&"a_shop".into(), &"stock".into()));
    for answer in &pong {
        assert_eq!(answer["type"], "io.nats.micro.v1.ping_response");
        let version: Vec<u32> =
            answer["version"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(version.len(), 3);
    }
    assert_eq!(pong[0]["metadata"]["vibrator"], "a shop");
    let id = format!("{:x}", stock.source().instance());
    assert_eq!(pong[1]["id"], *id);

    let info = &request(&client, "$SRV.INFO.stock", 1).await[0];
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert!(info["description"].is_string());
    let endpoint = &info["endpoints"][0];
    assert_eq!((&endpoint["name"], &endpoint["subject"]), (&"stock-any".into(), &"aether.stock.*".into()));
    assert_eq!(endpoint["queue_group"], "stock");

    shop.emit_wave("stock.low", &1).await.unwrap();
    stock.receive().await.unwrap();
    let stats = &request(&client, &format!("$SRV.STATS.stock.{id}"), 1).await[0];
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    let started = stats["started"].as_str().unwrap();
    assert!(started.ends_with('Z') && started.contains('T'), "{started}");
    let inbox = &stats["endpoints"][0];
    assert_eq!((&inbox["num_requests"], &inbox["num_errors"]), (&1.into(), &0.into()));
    assert!(inbox["average_processing_time"].is_u64() && inbox["processing_time"].is_u64());

    // The next answer belongs to the next request: no vibrator answered in the name of another.
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.unwrap();
    for subject in ["$SRV.PING.unlisted", "$SRV.PING.stock.1", "$SRV.SCHEMA", "$SRV.PING.a_shop"] {
        client.publish_with_reply(subject, inbox.clone(), "".into()).await.unwrap();
    }
    let only = loop {
        let reply = tokio::time::timeout(PATIENCE, replies.next()).await.unwrap().unwrap();
        // The server reports that no subscriber knows schemas.
        if reply.status.is_none() {
            break reply;
        }
    };
    assert_eq!(serde_json::from_slice::<Value>(&only.payload).unwrap()["name"], "a_shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_permission_to_answer_is_not_a_service() {
    let server = NatsServer::start().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let quiet = aether::builder()
        .url(server.url())
        .options(NatsOptions::default().discovery(false))
        .connect()
        .await
        .unwrap();
    let vibrator = Vibrator::create("quiet", &quiet).await.unwrap();
    vibrator.resonate_on("x").await.unwrap();
    let nobody = client.request("$SRV.PING", "".into()).await.unwrap_err();
    assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
}
