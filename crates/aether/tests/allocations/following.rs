//! Allocations per wave of a request. A program of its own, because it needs a counting allocator.

use aether_core::{Aether, Emitter, InboxOptions, Vibrator, Wave};
use bytes::Bytes;

const WAVES: u64 = 1000;

/// Allocations for each wave: of several rounds the cheapest counts, because queues grow in the first one, and the test
/// harness's thread allocates at its own time.
async fn per_wave(emitter: &Emitter, receiver: &mut Vibrator) -> u64 {
    let allocations = || dhat::HeapStats::get().total_blocks;
    let mut counts = Vec::new();
    for _ in 0..6 {
        let before = allocations();
        for _ in 0..WAVES {
            let payload = Bytes::from_static(b"no allocation of its own");
            emitter.emit(Wave::from_bytes("orders", payload).unwrap()).await.unwrap();
        }
        for _ in 0..WAVES {
            receiver.receive().await.unwrap();
        }
        counts.push(allocations() - before);
    }
    counts.into_iter().min().unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn a_cause_is_one_allocation_and_root_and_baggage_are_none() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let aether = Aether::local();
    let options = InboxOptions::interactive().max_waves(2 * WAVES as usize);
    let mut receiver = Vibrator::builder("receiver").inbox(options).create(&aether).await.unwrap();
    receiver.resonate_on("orders").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    // The name of the channel is an allocation of each wave.
    let usual = per_wave(&shop, &mut receiver).await;
    shop.with_baggage("tenant", "acme")
        .unwrap()
        .emit(Wave::from_bytes("orders", "x").unwrap())
        .await
        .unwrap();
    let first = receiver.receive().await.unwrap();
    shop.following(&first).emit(Wave::from_bytes("orders", "x").unwrap()).await.unwrap();
    let second = receiver.receive().await.unwrap();
    assert_eq!((second.root(), second.baggage().len()), (first.id(), 1));
    let caused = per_wave(&shop.caused_by(first.id()), &mut receiver).await;
    let followed = per_wave(&shop.following(&second), &mut receiver).await;
    assert_eq!((caused - usual, followed - usual), (WAVES, WAVES), "{usual} for waves without a cause");
}
