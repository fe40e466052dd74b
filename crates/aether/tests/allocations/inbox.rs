//! Allocations of the inbox alone. A program of its own, because the allocator counts for all threads.

use aether_core::{InboxOptions, Wave, inbox::Inbox};

const WAVES: usize = 1000;

fn allocations() -> u64 {
    dhat::HeapStats::get().total_blocks
}

#[test]
fn an_inbox_that_has_grown_allocates_nothing_for_a_wave() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let inbox = Inbox::new(InboxOptions::overload().sojourn_cap(None)).unwrap();
    let waves: Vec<Wave> = [0.9, 0.5, 0.25]
        .map(|amplitude| Wave::builder("a").amplitude(amplitude).build().unwrap())
        .into_iter()
        .cycle()
        .take(2 * WAVES)
        .collect();
    let mut counts = Vec::new();
    // The first round grows the rings and the prefetch. More waves are pushed than fit, so that some are evicted. Of the
    // others the cheapest counts, because the test harness's thread allocates at its own time.
    for _ in 0..10 {
        let before = allocations();
        for wave in &waves {
            inbox.offer_now(wave.clone());
        }
        while inbox.take_now().is_some() {}
        for wave in &waves {
            inbox.offer_now(wave.clone());
            assert!(inbox.take_now().is_some());
        }
        counts.push(allocations() - before);
    }
    let ledger = inbox.ledger();
    assert!(ledger.shed_full > 0 && ledger.adds_up(), "{ledger:?}");
    assert_eq!(counts[1..].iter().min(), Some(&0), "push, evict and pop, round by round: {counts:?}");
}
