//! The cost of the filter: `cargo nextest run --release -p aether-bus --test suite odd_messages::long --no-capture`.

use std::time::Instant;

use super::*;

const WAVES: u32 = 300_000;
const ROUND_TRIPS: usize = 5_000;

/// Both processes hear each other, and what is odd.
async fn ends(url: &str) -> (Scene, Aether, Vibrator, Vibrator) {
    let scene = Scene::new(url, &NatsOptions::default()).await;
    let speaking = aether::connect(url).await.unwrap();
    let (near, far) =
        (Vibrator::create("near", &speaking).await, Vibrator::create("far", &scene.hearing).await);
    let (near, far) = (near.unwrap(), far.unwrap());
    near.resonate_on("back.*").await.unwrap();
    far.resonate_on("to.*").await.unwrap();
    (scene, speaking, near, far)
}

/// The next wave, which nothing may cost.
async fn next(name: &str, vibrator: &mut Vibrator, both: [&Aether; 2]) {
    let received = tokio::time::timeout(LONG, vibrator.receive()).await;
    assert!(
        matches!(received, Ok(Some(_))),
        "{name}: {received:?}, {:?}, {:#?}",
        vibrator.ledger(),
        both.map(Aether::status)
    );
}

async fn measure(name: &str, near: &mut Vibrator, far: &mut Vibrator, both: [&Aether; 2]) {
    for round in 0..3 {
        let started = Instant::now();
        let emitter = near.emitter();
        let emitting = tokio::spawn(async move {
            for _ in 0..WAVES {
                emitter.emit_bytes("to.far", vec![0; 128]).await.unwrap();
            }
        });
        for _ in 0..WAVES {
            next(name, far, both).await;
        }
        emitting.await.unwrap();
        let rate = f64::from(WAVES) / started.elapsed().as_secs_f64();
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let started = Instant::now();
            near.emit_bytes("to.far", vec![0; 128]).await.unwrap();
            next(name, far, both).await;
            far.emit_bytes("back.near", vec![0; 128]).await.unwrap();
            next(name, near, both).await;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let (p50, p99) = (times[ROUND_TRIPS / 2], times[ROUND_TRIPS * 99 / 100]);
        println!("{name} {round}: {rate:.0} waves/s, round trip p50 {p50:?}, p99 {p99:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput_and_round_trips_direct_and_through_the_filter() {
    let server = NatsServer::start().await.unwrap();
    let (scene, speaking, mut near, mut far) = ends(&server.url()).await;
    let both = [&speaking, &scene.hearing];
    measure("direct", &mut near, &mut far, both).await;
    // Both hear it.
    scene.attacker.publish(&forms("aether.back.odd")[..1], 1).await;
    scene.attacker.publish(&forms("aether.to.odd")[..1], 1).await;
    scene.is_back(2).await;
    tokio::time::timeout(LONG, async {
        // The other one hears again what it emits, if it is back.
        near.resonate_on("again").await.unwrap();
    })
    .await
    .unwrap();
    measure("filtered", &mut near, &mut far, both).await;
    assert_eq!(scene.hearing.status().connects, 2);
}
