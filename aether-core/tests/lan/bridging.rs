//! A bridge from a local network to a NATS server.

use aether_core::Pattern;
use aether_core::bridge::Bridge;
use aether_core::conformance::NatsServer;

use super::*;

async fn next(ear: &mut Vibrator) -> Wave {
    timeout(LONG, ear.receive()).await.expect("a wave in time").expect("the medium is open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waves_and_questions_cross_from_a_local_network_to_a_hub_and_back() {
    let server = NatsServer::start().await.unwrap();
    let ports = [free_port(), free_port()];
    let (edge, here) = (peer(ports[0], &[], SECRET).await, peer(ports[1], &ports[..1], SECRET).await);
    let (hub, there) =
        (Aether::connect(&server.url()).await.unwrap(), Aether::connect(&server.url()).await.unwrap());
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
    edge.flush().await.unwrap();
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
