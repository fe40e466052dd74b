//! Unit tests of the observer, with a paused clock.

use std::time::Duration;

use super::*;
use crate::EngineOptions;
use aether_core::Wave;

const SECOND: Duration = Duration::from_secs(1);

async fn observer(aether: &Aether, waves_a_second: u32) -> PhysicsObserver {
    let engine = EngineOptions::default().waves_a_second(waves_a_second).build().unwrap();
    PhysicsObserver::open("watch", ">", engine, aether).await.unwrap()
}

async fn says(who: &Vibrator, channel: &str, times: usize) {
    for _ in 0..times {
        // It needs no receiver.
        who.emit(Wave::from_bytes(channel, "").unwrap()).await.unwrap();
    }
}

/// Advances for a time and returns the findings.
async fn findings(observer: &mut PhysicsObserver, time: Duration) -> Vec<Finding> {
    let mut found = Vec::new();
    let end = sleep(time);
    tokio::pin!(end);
    loop {
        let is_over = tokio::select! {
            advanced = observer.advance(256) => advanced.unwrap().is_none(),
            () = &mut end => true,
        };
        found.extend(std::iter::from_fn(|| observer.found()));
        if is_over {
            return found;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_flood_it_observes_a_part_leaves_the_bus_and_returns() {
    aether_core::clock::follow_tokio();
    let aether = Aether::local();
    let mut observer = observer(&aether, 100).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    says(&shop, "orders.created", 2000).await;
    let found = findings(&mut observer, SECOND).await;
    assert!(matches!(&found[..], [Finding::Sampling { .. }]), "{found:?}");
    let sampling = observer.sampling();
    assert_eq!((sampling.shown, sampling.times_away), (800, 1), "{sampling:?}");
    // The rest was already queued and is skipped; later waves are not even offered.
    let offered = observer.ledger().offered;
    assert_eq!(offered, 2000);
    says(&shop, "orders.created", 500).await;
    assert_eq!(observer.ledger().offered, offered);
    assert!(findings(&mut observer, 8 * SECOND).await.is_empty());
    says(&shop, "orders.created", 5).await;
    findings(&mut observer, SECOND).await;
    assert_eq!((observer.ledger().offered, observer.sampling().shown), (offered + 5, 805));
    let away = observer.sampling().away;
    assert!((8 * SECOND..9 * SECOND).contains(&away), "{away:?}");
    assert!(observer.ledger().adds_up());
}

#[tokio::test(start_paused = true)]
async fn a_beat_is_missed_after_a_pause_but_not_during_it() {
    aether_core::clock::follow_tokio();
    let aether = Aether::local();
    let mut observer = observer(&aether, 100).await;
    let (heart, shop) =
        (Vibrator::create("heart", &aether).await.unwrap(), Vibrator::create("shop", &aether).await.unwrap());
    let mut found = Vec::new();
    for _ in 0..40 {
        says(&heart, "heart.beat", 1).await;
        found.extend(findings(&mut observer, SECOND).await);
    }
    assert!(matches!(&found[..], [Finding::Standing(_)]), "{found:?}");
    // Uses up the budget of eight quiet seconds and the same again in credit.
    says(&shop, "orders.created", 2000).await;
    let found = findings(&mut observer, Duration::from_millis(7900)).await;
    assert!(matches!(&found[..], [Finding::Sampling { .. }]), "{found:?}");
    assert!(observer.gone.is_some());
    // It stopped meanwhile, which is found three periods after the observer has returned.
    let found = findings(&mut observer, 3 * SECOND).await;
    assert!(found.is_empty(), "{found:?}");
    let found = findings(&mut observer, SECOND).await;
    assert!(matches!(&found[..], [Finding::MissingBeat { .. }]), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_beat_is_not_missed_because_the_observer_stalled() {
    aether_core::clock::follow_tokio();
    let aether = Aether::local();
    let mut observer = observer(&aether, 100).await;
    let heart = Vibrator::create("heart", &aether).await.unwrap();
    for _ in 0..40 {
        says(&heart, "heart.beat", 1).await;
        findings(&mut observer, SECOND).await;
    }
    // The observer is not polled for 20 seconds, as if its process was stopped. It finds its timer due first.
    let mut advance = Box::pin(observer.advance(256));
    assert!(std::future::poll_fn(|cx| Poll::Ready(advance.as_mut().poll(cx).is_pending())).await);
    tokio::time::advance(20 * SECOND).await;
    assert_eq!(advance.await.unwrap(), Some(0));
    assert_eq!(observer.found(), None);
    // The heart has really stopped.
    let found = findings(&mut observer, 4 * SECOND).await;
    assert!(matches!(&found[..], [Finding::MissingBeat { .. }]), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_medium_even_during_a_pause() {
    aether_core::clock::follow_tokio();
    for waves in [10, 2000] {
        let aether = Aether::local();
        let mut observer = observer(&aether, 100).await;
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        says(&shop, "orders.created", waves).await;
        findings(&mut observer, SECOND).await;
        assert_eq!(observer.gone.is_some(), waves == 2000);
        let start = aether_core::clock::test_now();
        aether.close().await.unwrap();
        assert_eq!(observer.advance(256).await.unwrap(), None);
        assert!(aether_core::clock::since(start) < SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_names_and_patterns_are_refused() {
    aether_core::clock::follow_tokio();
    let aether = Aether::local();
    let open = |name: &'static str, pattern: &'static str| {
        PhysicsObserver::open(name, pattern, PhysicsEngine::default(), &aether)
    };
    assert!(matches!(open("", ">").await, Err(ObserveError::Create(_))));
    assert!(matches!(open("watch", "a..b").await, Err(ObserveError::Join(JoinError::Invalid(_)))));
    aether.close().await.unwrap();
    assert!(matches!(open("watch", ">").await, Err(ObserveError::Join(JoinError::Closed))));
}
