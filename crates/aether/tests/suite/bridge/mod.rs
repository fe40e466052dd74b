//! Bridges between real NATS servers: what passes, what does not, and what becomes of the rest.

mod asking;
mod outages;
mod topologies;

use std::time::Duration;

use aether::bridge::{BRIDGES, Bridge, BridgeBuilder, BridgeError, Side};
use aether::rules::{Border, Rule, Rules};
use aether_conformance::NatsServer;
use aether_core::wave::TraceContext;
use aether_core::{Aether, EchoReason, JoinError, Kind, Pattern, Vibrator, Wave, WaveId};
use aether_link::wire::{Sender, encode_at};
use tokio::time::timeout;

use crate::settling::flushed;

/// For what takes milliseconds on an idle machine. Nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(120);

async fn server() -> NatsServer {
    NatsServer::start().await.unwrap()
}

async fn connected(server: &NatsServer) -> Aether {
    aether::connect(&server.url()).await.unwrap()
}

fn of(pattern: &str) -> BridgeBuilder {
    Bridge::builder([Pattern::new(pattern).unwrap()]).patience(PATIENCE)
}

async fn ear(aether: &Aether, pattern: &str) -> Vibrator {
    let ear = Vibrator::create("ear", aether).await.unwrap();
    ear.resonate_on(pattern).await.unwrap();
    ear
}

async fn next(ear: &mut Vibrator) -> Wave {
    timeout(PATIENCE, ear.receive()).await.expect("a wave in time").expect("the medium is open")
}

/// The texts of all waves up to one of the text `end`.
async fn until(ear: &mut Vibrator, end: &str) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let wave = next(ear).await;
        if wave.text().unwrap() == end {
            return texts;
        }
        texts.push(wave.text().unwrap().to_owned());
    }
}

fn text(channel: &str, text: impl ToString) -> Wave {
    Wave::builder(channel).never_decays().text(text.to_string()).build().unwrap()
}

/// So weak that it is received behind everything that has arrived.
fn end(channel: &str) -> Wave {
    Wave::builder(channel).amplitude(0.01).never_decays().text("end").build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_crosses_both_ways_with_all_it_has_and_once() {
    let (edge, hub) = (server().await, server().await);
    let (here, there) = (connected(&edge).await, connected(&hub).await);
    let bridge = of("sensors.>").between(&here, &there).await.unwrap();
    let (edge, hub) = (connected(&edge).await, connected(&hub).await);
    let (mut at_edge, mut at_hub) = (ear(&edge, "sensors.>").await, ear(&hub, "sensors.>").await);

    let trace = TraceContext::new(7, 8, 1).unwrap();
    let cause: WaveId = "shop@1f/7".parse().unwrap();
    let wave = Wave::builder("sensors.attic")
        .kind(Kind::Broadcast)
        .amplitude(0.8)
        .half_life(Duration::from_secs(4))
        .key("attic")
        .cause(cause.clone())
        .trace_context(trace.clone())
        .metadata("unit", "celsius")
        .text("21.5")
        .build()
        .unwrap();
    let thermometer = edge.emitter("thermometer").unwrap();
    let receipt = thermometer.emit(wave.clone()).await.unwrap();
    thermometer.emit(text("other.channel", "stays")).await.unwrap();
    let first = next(&mut at_edge).await;
    let crossed = next(&mut at_hub).await;
    assert_eq!((crossed.id(), crossed.root()), (thermometer.id_of(&receipt), first.root()));
    assert_eq!((crossed.hops(), first.hops()), (1, 0));
    assert_eq!((crossed.kind(), crossed.amplitude()), (Kind::Broadcast, wave.amplitude()));
    assert_eq!((crossed.half_life(), crossed.key()), (wave.half_life(), Some("attic")));
    assert_eq!((crossed.cause(), crossed.trace_context()), (Some(&cause), Some(trace)));
    assert_eq!((crossed.text().unwrap(), crossed.metadata().value("unit")), ("21.5", Some("celsius")));
    assert!(crossed.metadata().value(BRIDGES).is_some() && crossed.age() > Duration::ZERO);

    // Back, behind everything that could have come back before.
    hub.emitter("desk").unwrap().emit(end("sensors.end")).await.unwrap();
    assert_eq!(until(&mut at_edge, "end").await, [""; 0]);
    assert_eq!(until(&mut at_hub, "end").await, [""; 0]);
    let account = bridge.close().await;
    assert_eq!((account.there.relayed, account.back.unwrap().relayed), (1, 1));
    assert!(account.adds_up(), "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_is_one_way() {
    let (edge, hub) = (server().await, server().await);
    let (here, there) = (connected(&edge).await, connected(&hub).await);
    let bridge = of(">").one_way().between(&here, &there).await.unwrap();
    let (edge, hub) = (connected(&edge).await, connected(&hub).await);
    let (mut at_edge, mut at_hub) = (ear(&edge, ">").await, ear(&hub, ">").await);
    hub.emitter("desk").unwrap().emit(text("orders.stop", "stays")).await.unwrap();
    flushed(&hub).await;
    let thermometer = edge.emitter("thermometer").unwrap();
    thermometer.emit(text("sensors.attic", "21.5")).await.unwrap();
    assert_eq!(until(&mut at_hub, "21.5").await, ["stays"]);
    let account = bridge.close().await;
    assert_eq!((account.there.relayed, account.back), (1, None));
    thermometer.emit(end("sensors.attic")).await.unwrap();
    assert_eq!(until(&mut at_edge, "end").await, ["21.5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_rules_of_a_side_forbid_is_not_relayed_and_counted() {
    let (edge, hub) = (server().await, server().await);
    let here = connected(&edge).await;
    let rules = Rules::new([
        Rule::new("thermometer").emit(["sensors.>"]),
        Rule::new("bridge").listen(["sensors.>"]),
        Rule::new("ear").listen([">"]),
    ]);
    let border = Border::new(rules.unwrap());
    let there = aether::builder().url(hub.url()).guard(border.clone()).connect().await.unwrap();
    let refused = of("orders.>").between(&here, &there).await.unwrap_err();
    let BridgeError::Join { side: Side::There, source: JoinError::NotAllowed(_), .. } = refused else {
        panic!("{refused:?}");
    };
    let bridge = of("sensors.>").between(&here, &there).await.unwrap();
    let mut at_hub = ear(&there, "sensors.>").await;

    let stranger = here.emitter("stranger").unwrap();
    let mut echoes = stranger.echoes().await.unwrap();
    let command = Wave::builder("sensors.reset").kind(Kind::Command).text("stays").build().unwrap();
    let receipt = stranger.emit(command).await.unwrap();
    let echo = timeout(PATIENCE, echoes.receive()).await.unwrap().unwrap();
    assert_eq!((echo.of, echo.reason), (stranger.id_of(&receipt), EchoReason::Rejected));
    here.emitter("thermometer").unwrap().emit(text("sensors.attic", "21.5")).await.unwrap();
    assert_eq!(until(&mut at_hub, "21.5").await, [""; 0]);
    let account = bridge.close().await;
    assert_eq!((account.there.not_allowed, account.there.relayed), (1, 1));
    assert!(account.adds_up() && border.refused().emitted == 1, "{account:?} {:?}", border.refused());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hops_are_bounded_whatever_frames_claim() {
    let (edge, hub) = (server().await, server().await);
    let (here, there) = (connected(&edge).await, connected(&hub).await);
    let bridge = of("sensors.>").max_hops(2).one_way().between(&here, &there).await.unwrap();
    let (edge_too, hub_too) = (connected(&edge).await, connected(&hub).await);
    let (mut at_edge, mut at_hub) = (ear(&edge_too, "sensors.>").await, ear(&hub_too, "sensors.>").await);
    let forger = async_nats::connect(edge.url()).await.unwrap();
    // Found by its amplitude, which is before half-life and hops.
    let wave = Wave::builder("sensors.forged").amplitude(0.3).text("forged").build().unwrap();
    let loss = (-0.3_f64.log2() * 2048.0).round() as u16;
    let sender = Sender { node: 7, sent_micros: 1 };
    for hops in [0, 1, 2, 9, 10, 11, 255] {
        let identified =
            wave.clone().identified(format!("forger@1/{}", u64::from(hops) + 1).parse().unwrap(), None);
        let frame = encode_at(sender, None, None, &[identified], std::time::Instant::now()).unwrap();
        let mut frame = frame.to_vec();
        let at = frame.windows(2).position(|bytes| bytes == loss.to_le_bytes()).unwrap() + 3;
        assert_eq!(frame[at], 0);
        frame[at] = hops;
        forger.publish("aether.sensors.forged", frame.into()).await.unwrap();
    }
    forger.flush().await.unwrap();
    for hops in [0, 1, 2, 9, 10] {
        assert_eq!(next(&mut at_edge).await.hops(), hops);
    }
    assert_eq!([next(&mut at_hub).await.hops(), next(&mut at_hub).await.hops()], [1, 2]);
    // Behind everything else.
    edge_too.emitter("thermometer").unwrap().emit(end("sensors.attic")).await.unwrap();
    assert_eq!(until(&mut at_hub, "end").await, [""; 0]);
    let account = bridge.close().await;
    assert_eq!((account.there.relayed, account.there.too_far), (3, 3));
    assert!(account.adds_up() && here.status().malformed == 2, "{account:?}");
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let (here, there) = (Aether::local(), Aether::local());
    let none = Bridge::builder([]).between(&here, &there).await;
    assert!(matches!(none, Err(BridgeError::NoPatterns)));
    for hops in [0, 11] {
        let refused = of(">").max_hops(hops).between(&here, &there).await.unwrap_err();
        assert!(refused.to_string().contains("use 1 to 10"), "{refused}");
    }
    here.close().await.unwrap();
    let closed = of(">").between(&here, &there).await.unwrap_err();
    let BridgeError::Join { side: Side::Here, source: JoinError::Closed, .. } = closed else {
        panic!("{closed:?}");
    };
}
