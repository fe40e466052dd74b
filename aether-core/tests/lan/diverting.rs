//! A local network as the first of two paths, with a server as the second.

use aether_core::conformance::NatsServer;
use aether_core::medium::PathState;

use super::*;
use crate::proxy::Proxy;

async fn process(lan: String, server: &NatsServer) -> Aether {
    let builder = Aether::builder().path(lan).path(server.url()).account_every(None);
    builder.options(LanOptions::default().secret(SECRET)).connect().await.unwrap()
}

/// Waits until waves go by a path. There is no event for that: an application has no use for one.
async fn until_in_use(aether: &Aether, path: usize) {
    let deadline = tokio::time::Instant::now() + LONG;
    while aether.paths()[path].state != PathState::InUse {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", aether.paths());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waves_go_by_the_local_network_while_somebody_is_there_and_by_the_server_otherwise() {
    let server = NatsServer::start().await.unwrap();
    let (here_port, there_port) = (free_port(), free_port());
    let cable = Proxy::new(here_port).await.unwrap();
    let here = process(address(here_port, &[]), &server).await;
    // Nobody is on the network.
    until_in_use(&here, 1).await;
    assert_eq!(here.paths()[0].state, PathState::Broken);
    let there = process(address(there_port, &[cable.port()]), &server).await;
    let mut ear = vibrator("ear", &there).await;
    ear.resonate_on("orders.*").await.unwrap();
    until_in_use(&here, 0).await;
    until_in_use(&there, 0).await;
    let shop = here.emitter("shop").unwrap();
    let mut hops = Vec::new();
    let mut say = async |text: &'static str| {
        shop.emit_bytes("orders.a", text).await.unwrap();
        let wave = timeout(LONG, ear.receive()).await.unwrap().unwrap();
        assert_eq!(wave.text().unwrap(), text);
        hops.push(wave.hops());
    };
    say("by the network").await;
    cable.cut().await;
    until_in_use(&here, 1).await;
    say("by the server").await;
    cable.mend();
    until_in_use(&here, 0).await;
    until_in_use(&there, 0).await;
    say("by the network again").await;
    assert_eq!(hops, [0, 1, 0]);
    here.close().await.unwrap();
    there.close().await.unwrap();
}
