//! The cost of subscribing to many patterns. A program of its own, because it needs a counting allocator.

use aether_core::{Aether, Vibrator};

fn allocated() -> u64 {
    dhat::HeapStats::get().total_bytes
}

#[tokio::test(flavor = "current_thread")]
async fn the_cost_of_a_join_does_not_grow_with_the_subscribed_patterns() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut costs = Vec::new();
    for (joins, respects) in [(1000, false), (16_000, false), (16_000, true)] {
        let aether = Aether::local();
        let ear = Vibrator::create("ear", &aether).await.unwrap();
        let sender = Vibrator::builder("sender");
        let _sender = if respects { sender.respect_floor() } else { sender }.create(&aether).await.unwrap();
        let before = allocated();
        for n in 0..joins {
            ear.resonate_on(format!("orders.n{n}.*")).await.unwrap();
        }
        for n in 0..joins {
            ear.detune(format!("orders.n{n}.*")).unwrap();
        }
        costs.push((allocated() - before) / joins);
    }
    let [few, many, respected] = costs[..] else { panic!("{costs:?}") };
    // Tables double their size occasionally; copying all subscriptions at each join would cost hundreds of times as
    // much.
    assert!(many < 2 * few && respected < 3 * few, "bytes a join: {costs:?}");
}
