//! Allocations per wave. A program of its own, because it needs a counting allocator.

use aether_core::{Aether, Channel, InboxOptions, Vibrator, Wave};
use bytes::Bytes;

const WAVES: u64 = 1000;

fn allocations() -> u64 {
    dhat::HeapStats::get().total_blocks
}

#[tokio::test(flavor = "current_thread")]
async fn a_wave_allocates_nothing_beyond_its_payload_once_bodies_are_recycled() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let aether = Aether::local();
    let mut receivers = Vec::new();
    for name in ["a", "b", "c"] {
        // Room for all waves of a round, so that no emitter waits.
        let options = InboxOptions::interactive().max_waves(2 * WAVES as usize);
        let receiver = Vibrator::builder(name).inbox(options).create(&aether).await.unwrap();
        receiver.resonate_on("orders.*").await.unwrap();
        receivers.push(receiver);
    }
    let sender = Vibrator::create("sender", &aether).await.unwrap();
    let channel = Channel::new("orders.created").unwrap();
    let mut counts = Vec::new();
    // The first round grows the queues and caches the route. Of the others the cheapest counts, because the test
    // harness's thread allocates at its own time.
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
    assert_eq!(counts[1..].iter().min(), Some(&0), "three receivers share one body: {counts:?}");

    // A burst that is dropped leaves no more than what is kept for later waves.
    let bytes = || dhat::HeapStats::get().curr_bytes;
    let before = bytes();
    let burst: Vec<_> = (0..50_000).map(|_| Wave::from_bytes(&channel, vec![7; 100]).unwrap()).collect();
    assert!(bytes() - before > 50_000 * 200);
    drop(burst);
    assert!(bytes() < before + (1 << 20), "{} bytes are kept", bytes() - before);
    // Traffic that needs little makes it give back the rest.
    for _ in 0..200_000 {
        let waves = [(); 200].map(|()| Wave::from_bytes(&channel, "x").unwrap());
        drop(waves);
        if bytes() < before + (100 << 10) {
            return;
        }
    }
    panic!("{} bytes are still kept", bytes() - before);
}
