//! A bridge whose other side is away for a while.

use aether::nats::NatsOptions;
use aether_core::{InboxOptions, ShedReason, WhenFull};
use tokio::sync::mpsc;

use super::*;

const WEAK: usize = 300;
const STRONG: usize = 50;
/// The room in front of the uplink.
const ROOM: usize = 100;

/// Weak waves and then strong ones, with their numbers as text.
async fn emit_all(edge: &Aether) {
    let emitter = edge.emitter("thermometer").unwrap();
    for (waves, amplitude) in [(WEAK, 0.2), (STRONG, 0.9)] {
        for number in 0..waves {
            let wave = Wave::builder("sensors.attic").amplitude(amplitude).never_decays();
            emitter.emit(wave.text(number.to_string()).build().unwrap()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_uplink_is_killed_waves_wait_and_the_strong_ones_go_first() {
    let (edge, mut hub) = (server().await, server().await);
    let (shed, mut sheds) = mpsc::unbounded_channel();
    let outbox =
        InboxOptions::interactive().max_waves(ROOM).when_full(WhenFull::Shed).on_shed(move |_, reason| {
            let _ = shed.send(reason);
        });
    let here = connected(&edge).await;
    let there = aether::builder().url(hub.url()).options(NatsOptions::default().outbox(outbox));
    let there = there.connect().await.unwrap();
    let bridge = of("sensors.>").one_way().between(&here, &there).await.unwrap();
    let edge = connected(&edge).await;
    let mut at_edge = ear(&edge, "sensors.>").await;
    // On the connection of the bridge: a subscription of another one might come back later than the waves.
    let mut at_hub = ear(&there, "sensors.>").await;

    let mut connection = there.connection();
    hub.kill().await.unwrap();
    // That it was made may be reported late.
    let broken = async { while connection.changed().await.unwrap().connected {} };
    timeout(PATIENCE, broken).await.unwrap();
    emit_all(&edge).await;
    // Those on the edge notice nothing.
    for _ in 0..WEAK + STRONG {
        next(&mut at_edge).await;
    }
    for _ in 0..WEAK + STRONG - ROOM {
        assert_eq!(timeout(PATIENCE, sheds.recv()).await.unwrap(), Some(ShedReason::Full));
    }
    hub.restart().await.unwrap();
    let mut amplitudes = Vec::new();
    for _ in 0..ROOM {
        amplitudes.push(next(&mut at_hub).await.amplitude().as_f32());
    }
    let strong = amplitudes.iter().take_while(|amplitude| **amplitude > 0.5).count();
    assert_eq!(strong, STRONG, "{amplitudes:?}");
    let account = bridge.close().await;
    flushed(&there).await;
    let outbox = there.status().outbox;
    assert_eq!(account.there.relayed, (WEAK + STRONG) as u64);
    assert_eq!((outbox.offered, outbox.shed_full), (account.there.relayed, (WEAK + STRONG - ROOM) as u64));
    assert_eq!((outbox.delivered, outbox.queued), (ROOM as u64, 0));
    assert!(account.adds_up() && outbox.adds_up(), "{account:?} {outbox:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_uplink_hangs_the_edge_goes_on_and_nothing_is_lost() {
    let (edge, hub) = (server().await, server().await);
    let (here, there) = (connected(&edge).await, connected(&hub).await);
    let bridge = of("sensors.>").between(&here, &there).await.unwrap();
    let edge = connected(&edge).await;
    let (mut at_edge, mut at_hub) = (ear(&edge, "sensors.>").await, ear(&there, "sensors.>").await);
    hub.stop().await.unwrap();
    emit_all(&edge).await;
    for _ in 0..WEAK + STRONG {
        next(&mut at_edge).await;
    }
    hub.resume().unwrap();
    for _ in 0..WEAK + STRONG {
        next(&mut at_hub).await;
    }
    let account = bridge.close().await;
    assert_eq!(account.there.relayed, (WEAK + STRONG) as u64);
    assert_eq!(account.back.unwrap().relayed, 0);
    assert!(account.adds_up() && there.status().outbox.lost() == 0, "{account:?}");
}
