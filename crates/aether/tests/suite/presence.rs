//! The effect that a peer with publish rights can have on vibrators' announcements, over a real NATS server.

use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, EmitError, Emitter, Kind, Vibrator, Wave};
use futures::StreamExt;
use futures::future::join_all;

/// A bound for what takes milliseconds on an idle machine, and seconds if senders wait for answers. No test waits for
/// it to elapse.
const PATIENCE: Duration = Duration::from_secs(60);
const ANNOUNCEMENTS: &str = "aether-ask._aether.vibrators";
const CALLS: &str = "aether-ask._aether.vibrators.call";

async fn connect(server: &NatsServer) -> Aether {
    aether::connect(&server.url()).await.expect("the server is up")
}

/// A peer with a NATS client.
struct Stranger(async_nats::Client);

impl Stranger {
    async fn new(server: &NatsServer) -> Self {
        Self(async_nats::connect(server.url()).await.expect("the server is up"))
    }

    /// Publishes, and returns once the server has forwarded the message.
    async fn says(&self, subject: &str, text: &str) {
        self.0.publish(subject.to_owned(), text.to_owned().into()).await.expect("the server is up");
        self.0.flush().await.expect("the server is up");
    }
}

fn claim(vibrator: &str, patterns: &[&str], floor: f32) -> String {
    let hears: Vec<_> = patterns.iter().map(|pattern| format!(r#"{{"pattern":"{pattern}"}}"#)).collect();
    let hears = hears.join(",");
    format!(r#"{{"vibrator":"{vibrator}","hears":[{hears}],"floor":{floor:?},"effective_floor":{floor:?}}}"#)
}

async fn is_stopped(sender: &Emitter, channel: &str, amplitude: f32) -> bool {
    let wave = Wave::builder(channel).amplitude(amplitude).build().expect("a valid wave");
    match sender.emit(wave).await {
        Ok(_) => false,
        Err(EmitError::BelowFloor { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

/// Publishes a claim together with an undisputed one, until the sender believes the latter. Waits until each message was
/// read: a sender that has to drop some stops no waves.
async fn until_believed(stranger: &Stranger, here: &Aether, sender: &Emitter, said: &[String]) {
    let mut roster = here.roster().await.expect("the server is up");
    let mut number = 0;
    let believing = async {
        while !is_stopped(sender, "made.up", 0.1).await {
            // Each message has something new, so that the roster changes.
            number += 1;
            let made_up = claim("made-up@5", &["made.up", &format!("made.up.{number}")], 1.0);
            let text = format!("[{}]", said.iter().chain([&made_up]).cloned().collect::<Vec<_>>().join(","));
            stranger.says(ANNOUNCEMENTS, &text).await;
            while !roster.vibrators().iter().any(|known| {
                known.vibrator.name() == "made-up" && {
                    let last = format!("made.up.{number}");
                    known.heard.iter().any(|heard| heard.pattern.as_str() == last)
                }
            }) {
                roster.changed().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, believing).await.expect("floors count after two seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_announcement_stops_no_commands_of_others() {
    let server = NatsServer::start().await.unwrap();
    let (here, there) = (connect(&server).await, connect(&server).await);
    let mut ear = Vibrator::create("ear", &there).await.unwrap();
    ear.resonate_on("orders.*").await.unwrap();
    let shop = Vibrator::builder("shop").respect_floor().create(&here).await.unwrap();
    let stranger = Stranger::new(&server).await;
    let name = ear.source().to_string();
    for said in [claim(&name, &["orders.*"], 1.0), claim(&name, &["other"], 1.0), claim(&name, &[], 0.0)] {
        until_believed(&stranger, &here, &shop, &[said, claim("another@6", &["orders.*"], 1.0)]).await;
        for number in 0..20 {
            assert!(!is_stopped(&shop, &format!("orders.n{number}"), 0.1).await);
            ear.receive().await.unwrap();
        }
    }
    assert!(ear.ledger().adds_up() && ear.ledger().lost() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_receivers_use_bounded_memory_and_stop_nothing() {
    let server = NatsServer::start().await.unwrap();
    let (here, there) = (connect(&server).await, connect(&server).await);
    let mut roster = here.roster().await.unwrap();
    let shop = Vibrator::builder("shop").respect_floor().create(&here).await.unwrap();
    let stranger = Stranger::new(&server).await;
    until_believed(&stranger, &here, &shop, &[]).await;
    let long = "y".repeat(200);
    for vibrator in 0..100 {
        let patterns: Vec<_> = (0..256).map(|n| format!("x{vibrator}p{n}{long}.*")).collect();
        let patterns: Vec<_> = patterns.iter().map(|pattern| &**pattern).collect();
        let text = format!("[{}]", claim(&format!("fake@{:x}", vibrator + 10), &patterns, 0.5));
        stranger.says(ANNOUNCEMENTS, &text).await;
    }
    let overflowing = async {
        while roster.left_out() == 0 {
            roster.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, overflowing).await.expect("the table overflows");
    assert!(roster.weight() <= 16 << 20, "{}", roster.weight());
    // A new receiver may not be in the table, so every channel may have one.
    let mut ear = Vibrator::create("ear", &there).await.unwrap();
    ear.resonate_on("x1p0.*").await.unwrap();
    assert!(!is_stopped(&shop, "x1p0.a", 0.1).await && !is_stopped(&shop, "made.up", 0.1).await);
    ear.receive().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_answers_roll_calls_at_most_once_a_second() {
    let server = NatsServer::start().await.unwrap();
    let aether = connect(&server).await;
    let ears: Vec<_> = join_all((0..3).map(|_| Vibrator::create("ear", &aether))).await;
    for ear in &ears {
        ear.as_ref().unwrap().resonate_on("a").await.unwrap();
    }
    let stranger = Stranger::new(&server).await;
    let mut heard = stranger.0.subscribe(ANNOUNCEMENTS).await.unwrap();
    let mut messages = 0;
    let mut answered = Vec::new();
    for _round in 0..4 {
        for _ in 0..200 {
            stranger.0.publish(CALLS, "[]".into()).await.unwrap();
        }
        stranger.0.flush().await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, heard.next()).await.unwrap().unwrap();
        answered.push(std::time::Instant::now());
        messages += 1;
        let text = String::from_utf8_lossy(&answer.payload);
        assert_eq!(text.matches("ear@").count(), 3, "all of the process in one message: {text}");
    }
    assert_eq!(messages, 4);
    // One of the four may have been a heartbeat, and the first may have been read late.
    assert!(answered[3].duration_since(answered[0]) > Duration::from_millis(900), "{answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_join_at_once_are_announced_together() {
    let server = NatsServer::start().await.unwrap();
    let aether = connect(&server).await;
    let stranger = Stranger::new(&server).await;
    let mut heard = stranger.0.subscribe(ANNOUNCEMENTS).await.unwrap();
    stranger.0.flush().await.unwrap();
    let ear = Vibrator::create("ear", &aether).await.unwrap();
    let joins = (0..200).map(|n| ear.resonate_on(format!("orders.n{n}")));
    for joined in join_all(joins).await {
        joined.unwrap();
    }
    drop(ear);
    let mut messages = Vec::new();
    loop {
        let message = tokio::time::timeout(PATIENCE, heard.next()).await.unwrap().unwrap();
        messages.push(String::from_utf8_lossy(&message.payload).into_owned());
        if messages.last().is_some_and(|text| text.contains(r#""hears":[]"#)) {
            break;
        }
    }
    assert!(messages.len() < 20, "{} messages", messages.len());
    let all = &messages[messages.len() - 2];
    assert_eq!(all.matches(r#""pattern""#).count(), 200, "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_forged_echoes_are_refused_and_counted() {
    let server = NatsServer::start().await.unwrap();
    let (here, there) = (connect(&server).await, connect(&server).await);
    let mut ear = Vibrator::create("ear", &there).await.unwrap();
    ear.resonate_on("orders").await.unwrap();
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let mut echoes = shop.echoes().await.unwrap();
    for _ in 0..3 {
        shop.emit(Wave::builder("orders").kind(Kind::Command).build().unwrap()).await.unwrap();
        ear.receive().await.unwrap();
    }
    let stranger = Stranger::new(&server).await;
    let channel = format!("aether-ask._aether.echo.{:x}", shop.source().instance());
    let source = shop.source();
    let echo = |sequence: u64, count: u64| {
        format!(
            r#"[{{"of":"{source}/{sequence}","channel":"orders","reason":"shed","hint":"","by":"x","count":{count}}}]"#
        )
    };
    for (sequence, count) in [(1, u64::MAX), (2, 4), (4, 1), (1, 3)] {
        stranger.says(&channel, &echo(sequence, count)).await;
    }
    // A peer that knows the id of a wave can still report that it failed.
    let only = tokio::time::timeout(PATIENCE, echoes.receive()).await.unwrap().unwrap();
    assert_eq!((only.of.sequence, only.count), (1, 3));
    assert_eq!((echoes.implausible(), echoes.unknown(), here.echo_ledger().refused), (2, 1, 3));
    assert!(here.echo_ledger().adds_up());
}
