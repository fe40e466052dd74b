//! The memory of an idle vibrator. A program of its own, because the allocator counts for all threads.

use aether_core::{Aether, Vibrator, Wave};

const VIBRATORS: usize = 100;

fn bytes() -> usize {
    dhat::HeapStats::get().curr_bytes
}

#[tokio::test(flavor = "current_thread")]
async fn an_idle_vibrator_takes_little_memory() {
    // The trees that hold the numbers of instances then have the same nodes in every run.
    fastrand::seed(0);
    let _profiler = dhat::Profiler::builder().testing().build();
    let aether = Aether::local();
    // Absorbs one-time allocations.
    let _first = Vibrator::create("first", &aether).await.unwrap();
    let before = bytes();
    let mut vibrators = Vec::with_capacity(VIBRATORS);
    let kept = bytes() - before;
    for _ in 0..VIBRATORS {
        vibrators.push(Vibrator::create("idle", &aether).await.unwrap());
    }
    let each = (bytes() - before - kept) / VIBRATORS;
    println!("{each} bytes for an idle vibrator");
    assert!(each <= 2000, "{each}");

    // A vibrator that has received something keeps a ring for each level received, and nothing else.
    vibrators[0].resonate_on("a").await.unwrap();
    let emitter = vibrators[1].emitter();
    emitter.emit(Wave::from_bytes("a", "x").unwrap()).await.unwrap();
    vibrators[0].receive().await.unwrap();
    let before = bytes();
    for vibrator in &vibrators[2..] {
        vibrator.resonate_on("a").await.unwrap();
    }
    emitter.emit(Wave::from_bytes("a", "x").unwrap()).await.unwrap();
    for vibrator in &mut vibrators[2..] {
        vibrator.receive().await.unwrap();
    }
    let received = (bytes() - before) / (VIBRATORS - 2);
    println!("{received} bytes more for one that has received a wave");
    assert!(received <= 1200, "{received}");
}
