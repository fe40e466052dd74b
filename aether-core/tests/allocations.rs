//! What a wave costs in allocations. In a program of its own, as it needs an allocator that counts.

use aether_core::{Aether, Channel, InboxOptions, Vibrator, Wave};
use bytes::Bytes;

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

const WAVES: u64 = 1000;

fn allocations() -> u64 {
    dhat::HeapStats::get().total_blocks
}

#[tokio::test(flavor = "current_thread")]
async fn a_wave_is_one_allocation_beyond_its_payload() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let aether = Aether::local();
    let mut receivers = Vec::new();
    for name in ["a", "b", "c"] {
        // Room for all waves of a round, so that nothing has to wait.
        let options = InboxOptions::interactive().max_waves(2 * WAVES as usize);
        let receiver = Vibrator::builder(name).inbox(options).create(&aether).await.unwrap();
        receiver.resonate_on("orders.*").await.unwrap();
        receivers.push(receiver);
    }
    let sender = Vibrator::create("sender", &aether).await.unwrap();
    let channel = Channel::new("orders.created").unwrap();
    let mut counts = Vec::new();
    // The first round grows the queues and finds the route. Of the others the cheapest counts: the thread of the test
    // program that waits for this one allocates as well, at its own time.
    for _ in 0..10 {
        let before = allocations();
        for _ in 0..WAVES {
            let payload = Bytes::from_static(b"no allocation of its own");
            sender.emit(Wave::from_bytes(&channel, payload).unwrap()).await.unwrap();
        }
        for receiver in &mut receivers {
            for _ in 0..WAVES {
                receiver.receive().await.unwrap();
            }
        }
        counts.push(allocations() - before);
    }
    assert_eq!(counts[1..].iter().min(), Some(&WAVES), "three receivers share one body: {counts:?}");
}
