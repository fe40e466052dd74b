//! The memory cost of looking up routes. A program of its own, because it needs a counting allocator.

use aether_core::{Aether, InboxOptions, Vibrator, Wave};

async fn hearers(aether: &Aether, count: usize) -> Vec<Vibrator> {
    let mut hearers = Vec::new();
    for _ in 0..count {
        // Its queue grows with the first wave only.
        let hearer =
            Vibrator::builder("hearer").inbox(InboxOptions::overload().max_waves(1)).create(aether).await;
        let hearer = hearer.unwrap();
        hearer.resonate_on("orders.*").await.unwrap();
        hearers.push(hearer);
    }
    hearers
}

fn allocated() -> u64 {
    dhat::HeapStats::get().total_bytes
}

#[tokio::test(flavor = "current_thread")]
async fn neither_a_join_among_many_receivers_nor_unbounded_channels_cost_much() {
    let _profiler = dhat::Profiler::builder().testing().build();
    // The first emit after a join rebuilds the route, however many receivers the channel has.
    let mut costs = Vec::new();
    for count in [100, 5000] {
        let aether = Aether::local();
        let _hearers = hearers(&aether, count).await;
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        let emit = || async {
            let before = allocated();
            shop.emit(Wave::from_bytes("orders.created", "x").unwrap()).await.unwrap();
            allocated() - before
        };
        for _ in 0..3 {
            emit().await;
        }
        let usual = emit().await;
        let late = Vibrator::create("late", &aether).await.unwrap();
        late.resonate_on("orders.created").await.unwrap();
        costs.push(emit().await.saturating_sub(usual));
    }
    // This includes the wave queued by the late one.
    assert!(costs.iter().all(|bytes| *bytes < 2048), "bytes for 100 and for 5000 receivers: {costs:?}");

    // An unbounded number of channels.
    let aether = Aether::local();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let before = dhat::HeapStats::get().curr_bytes;
    for number in 0..200_000 {
        shop.emit(Wave::from_bytes(format!("made.up.{number}"), "x").unwrap()).await.unwrap();
    }
    let kept = dhat::HeapStats::get().curr_bytes.saturating_sub(before);
    assert!(kept < 12 << 20, "{kept} bytes");
}
