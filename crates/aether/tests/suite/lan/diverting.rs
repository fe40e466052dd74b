//! A local network as the first of two paths, with a server as the second.

use std::collections::HashSet;

use aether::paths::{PathState, WithPaths as _};
use aether_conformance::NatsServer;

use super::*;
use crate::proxy::Proxy;

/// How soon a peer whose cable is cut has gone.
const GONE_AFTER: Duration = Duration::from_secs(6);

async fn process(lan: String, server: &NatsServer) -> Aether {
    let builder = aether::builder().path(lan).path(server.url()).account_every(None);
    builder.options(patient().secret(SECRET).gone_after(GONE_AFTER)).connect().await.unwrap()
}

/// Waits until waves go by a path. There is no event for that: an application has no use for one.
async fn until_in_use(aether: &Aether, path: usize) {
    let deadline = tokio::time::Instant::now() + LONG;
    while aether::paths::paths(aether)[path].state != PathState::InUse {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", aether::paths::paths(aether));
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
    assert_eq!(aether::paths::paths(&here)[0].state, PathState::Broken);
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

/// The cable is cut while the outbox is never empty: what waits goes by the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_network_that_breaks_under_load_loses_nothing_beyond_the_counted() {
    let server = NatsServer::start().await.unwrap();
    let (here_port, there_port) = (free_port(), free_port());
    let cable = Proxy::new(here_port).await.unwrap();
    let here = process(address(here_port, &[]), &server).await;
    let there = process(address(there_port, &[cable.port()]), &server).await;
    let mut ear = vibrator("ear", &there).await;
    ear.resonate_on("orders.*").await.unwrap();
    until_in_use(&here, 0).await;
    let receiving = tokio::spawn(async move {
        let (mut numbers, mut repeated) = (HashSet::new(), 0_u64);
        while let Some(wave) = ear.receive().await {
            repeated += u64::from(!numbers.insert(wave.json::<u64>().unwrap()));
        }
        (numbers.len() as u64, repeated)
    });
    let shop = here.emitter("shop").unwrap();
    let emitting = tokio::spawn({
        let here = here.clone();
        async move {
            let mut number = 0_u64;
            for path in [0, 1] {
                while aether::paths::paths(&here)[path].sent <= 10_000 {
                    // The outbox has room for what is emitted until the peer is known to have gone.
                    for _ in 0..10 {
                        shop.emit_wave("orders.created", &number).await.unwrap();
                        number += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                if path == 0 {
                    cable.cut().await;
                }
            }
            (number, cable)
        }
    });
    let (emitted, cable) = timeout(3 * LONG, emitting).await.unwrap().unwrap();
    timeout(LONG, async { while here.flush().await.is_err() {} }).await.unwrap();
    let status = here.status();
    assert_eq!(status.outbox.offered, emitted);
    assert_eq!(status.outbox.lost() + status.outbox.queued, 0, "what waited went by the server");
    assert_eq!(aether::paths::paths(&here).iter().map(|path| path.sent).sum::<u64>(), emitted);
    here.close().await.unwrap();
    there.close().await.unwrap();
    drop(cable);
    let (heard, repeated) = timeout(LONG, receiving).await.unwrap().unwrap();
    let lost = emitted - heard;
    println!("{emitted} emitted, {heard} heard, {lost} lost, {} counted as unconfirmed", status.unconfirmed);
    assert_eq!(repeated, 0);
    assert!(lost <= status.unconfirmed, "{lost} lost, {} counted", status.unconfirmed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_is_on_the_network_and_the_server_is_away_waves_wait() {
    let mut server = NatsServer::start().await.unwrap();
    let here = process(address(free_port(), &[]), &server).await;
    until_in_use(&here, 1).await;
    let mut connection = here.connection();
    let mut ear = vibrator("ear", &here).await;
    ear.resonate_on("orders.*").await.unwrap();
    server.kill().await.unwrap();
    timeout(LONG, async { while connection.changed().await.unwrap().connected {} }).await.unwrap();
    let shop = here.emitter("shop").unwrap();
    for _ in 0..100 {
        shop.emit_bytes("orders.a", "later").await.unwrap();
    }
    match here.flush().await {
        Err(FlushError::Unconfirmed { waves: 100, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(here.status().outbox.queued, 100);
    server.restart().await.unwrap();
    for _ in 0..100 {
        timeout(LONG, ear.receive()).await.unwrap().unwrap();
    }
    assert_eq!(aether::paths::paths(&here)[0].sent, 0);
    here.close().await.unwrap();
}
