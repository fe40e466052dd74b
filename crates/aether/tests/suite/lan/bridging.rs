//! A bridge from a local network to a NATS server.

use aether::bridge::Bridge;
use aether_conformance::NatsServer;
use aether_core::Pattern;
use aether_core::{InboxOptions, ServeOrder};

use super::*;
use crate::proxy::Proxy;

async fn next(ear: &mut Vibrator) -> Wave {
    timeout(LONG, ear.receive()).await.expect("a wave in time").expect("the medium is open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waves_and_questions_cross_from_a_local_network_to_a_hub_and_back() {
    let server = NatsServer::start().await.unwrap();
    let ports = [free_port(), free_port()];
    let (edge, here) = (peer(ports[0], &[], SECRET).await, peer(ports[1], &ports[..1], SECRET).await);
    let (hub, there) =
        (aether::connect(&server.url()).await.unwrap(), aether::connect(&server.url()).await.unwrap());
    let bridge = Bridge::builder([Pattern::new("sensors.>").unwrap()]).between(&here, &there).await.unwrap();
    let (mut at_edge, mut at_hub) = (vibrator("edge-desk", &edge).await, vibrator("hub-desk", &hub).await);
    at_edge.resonate_on("sensors.>").await.unwrap();
    at_hub.resonate_on("sensors.>").await.unwrap();

    let thermometer = edge.emitter("thermometer").unwrap();
    thermometer.emit_bytes("sensors.attic", "21.5").await.unwrap();
    let (first, crossed) = (next(&mut at_edge).await, next(&mut at_hub).await);
    assert_eq!((crossed.id(), crossed.hops(), first.hops()), (first.id(), 1, 0));
    hub.emitter("office").unwrap().emit_bytes("sensors.cellar", "8").await.unwrap();
    assert_eq!(
        (next(&mut at_edge).await.text().unwrap(), next(&mut at_hub).await.text().unwrap()),
        ("8", "8")
    );

    at_edge.detune("sensors.>").unwrap();
    flushed(&edge).await;
    let question = Wave::builder("sensors.attic").text("?").build().unwrap();
    let (answer, ()) = tokio::join!(thermometer.ask_within(question, LONG), async {
        next(&mut at_hub).await.reply(&"no change").await.unwrap();
    });
    let answer = answer.unwrap();
    assert_eq!(
        (answer.json::<String>().unwrap().as_str(), answer.source().name()),
        ("no change", "hub-desk")
    );
    let account = bridge.close().await;
    assert_eq!((account.there.relayed, account.back.unwrap().relayed), (1, 1));
    assert!(account.adds_up() && account.there.answered == 1, "{account:?}");
}

/// The bridge has lost its way to the server: the machines at the edge talk on, and what the hub has missed comes when it is
/// back, the strongest first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bridge_whose_uplink_is_cut_leaves_its_edge_alone_and_relays_the_strongest_first_afterwards() {
    const WEAK: usize = 3000;
    const STRONG: usize = 30;
    let server = NatsServer::start().await.unwrap();
    let uplink = Proxy::new(server.port()).await.unwrap();
    let ports = [free_port(), free_port()];
    let (edge, here) = (peer(ports[0], &[], SECRET).await, peer(ports[1], &ports[..1], SECRET).await);
    let (hub, there) =
        (aether::connect(&server.url()).await.unwrap(), aether::connect(&uplink.url()).await.unwrap());
    let pattern = Pattern::new("sensors.>").unwrap();
    let bridge = Bridge::builder([pattern]).one_way().between(&here, &there).await.unwrap();
    let mut at_edge = vibrator("edge-desk", &edge).await;
    let as_they_come = InboxOptions::default().order(ServeOrder::Arrival);
    let mut at_hub = Vibrator::builder("hub-desk").inbox(as_they_come).create(&hub).await.unwrap();
    for ear in [&at_edge, &at_hub] {
        ear.resonate_on("sensors.>").await.unwrap();
    }
    let thermometer = edge.emitter("thermometer").unwrap();
    thermometer.emit_bytes("sensors.attic", "before").await.unwrap();
    assert_eq!(next(&mut at_hub).await.text().unwrap(), "before");
    assert_eq!(next(&mut at_edge).await.text().unwrap(), "before");

    uplink.cut().await;
    for number in 0..WEAK + STRONG {
        // The strong ones last.
        let amplitude = if number < WEAK { 0.3 } else { 0.9 };
        let wave = Wave::builder("sensors.attic").amplitude(amplitude).text(number.to_string());
        thermometer.emit(wave.build().unwrap()).await.unwrap();
    }
    for _ in 0..WEAK + STRONG {
        next(&mut at_edge).await;
    }
    flushed(&edge).await;
    assert!(at_hub.try_receive().is_err());
    // The edge has flushed, so all are in the inbox of the bridge or beyond.
    while there.status().outbox.queued < (WEAK + STRONG) as u64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    uplink.mend();
    for number in (WEAK..WEAK + STRONG).chain(0..WEAK) {
        assert_eq!(next(&mut at_hub).await.text().unwrap(), number.to_string());
    }
    let account = bridge.close().await;
    assert_eq!(account.there.relayed, (WEAK + STRONG + 1) as u64, "{account:?}");
    assert!(account.adds_up(), "{account:?}");
}
