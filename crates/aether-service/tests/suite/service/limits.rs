//! Limits and layers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use aether_core::{Aether, FailureReason, Wave};
use aether_service::{Rejection, Service};
use tokio::time::Instant;
use tower::limit::RateLimitLayer;
use tower::util::{MapErrLayer, MapRequestLayer, MapResponseLayer};

use crate::service::stage::{Gate, LONG, Stage, gated};

#[tokio::test]
async fn waves_without_room_wait_in_the_inbox_where_the_strongest_is_next() {
    let (gate, mut begun) = Gate::new();
    let aether = Aether::local();
    let service =
        Service::builder("service").concurrency(1).state(gate.clone()).on("work.*", gated).build(&aether);
    let stage = Stage::run(&aether, service.await.unwrap()).await;
    stage.emit("work.first", &()).await;
    assert_eq!(begun.recv().await.unwrap().channel().as_str(), "work.first");
    stage.emit("work.normal", &()).await;
    let strong = Wave::builder("work.strong").amplitude(0.9).build().unwrap();
    stage.user.emit(strong).await.unwrap();
    assert_eq!(stage.counters.report().received, 1, "the others are not taken out before there is room");
    gate.let_go(3);
    assert_eq!(begun.recv().await.unwrap().channel().as_str(), "work.strong");
    assert_eq!(begun.recv().await.unwrap().channel().as_str(), "work.normal");
    assert_eq!(stage.close().await.succeeded, 3);
}

#[tokio::test]
async fn no_more_are_handled_at_a_time_than_is_allowed() {
    let (gate, mut begun) = Gate::new();
    let aether = Aether::local();
    let service = Service::builder("service").concurrency(3).state(gate.clone()).on("work", gated);
    let stage = Stage::on(aether, service).await;
    for number in 0..20 {
        stage.emit("work", &number).await;
    }
    for done in 0..=17_u64 {
        if done > 0 {
            gate.let_go(1);
            begun.recv().await.unwrap();
        } else {
            for _ in 0..3 {
                begun.recv().await.unwrap();
            }
        }
        let report = stage.counters.report();
        assert!(report.in_flight <= 3 && report.adds_up(), "{report}");
        assert_eq!(report.received, done + 3);
    }
    gate.let_go(3);
    assert_eq!(stage.close().await.succeeded, 20);
}

#[tokio::test(start_paused = true)]
async fn a_rate_lets_the_rest_wait() {
    let builder = Service::builder("service").rate(2, Duration::from_secs(1)).on_query("tick", async || {});
    let stage = Stage::of(builder).await;
    let begun = Instant::now();
    for _ in 0..5 {
        stage.ask("tick", &()).await.unwrap();
    }
    // Time is paused and advances by timers: two at once, two a second later, one after another second.
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert_eq!(stage.close().await.succeeded, 5);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_cancelled_and_the_asker_gets_the_failure() {
    let builder = Service::builder("service")
        .time_out(Duration::from_secs(1))
        .on_query("slow", std::future::pending::<()>)
        .on_query("quick", async || "done");
    let stage = Stage::of(builder).await;
    let (reason, hint) = stage.failure("slow", &()).await;
    assert_eq!(reason, FailureReason::HandlerFailed);
    assert!(hint.contains("timed out"), "{hint}");
    assert_eq!(stage.ask("quick", &()).await.unwrap().text().unwrap(), "done");
    let report = stage.close().await;
    assert_eq!((report.timed_out, report.succeeded), (1, 1));
}

#[tokio::test]
async fn a_service_that_sheds_when_busy_refuses_at_once() {
    let (gate, mut begun) = Gate::new();
    let builder = Service::builder("service")
        .concurrency(1)
        .shed_when_busy()
        .state(gate.clone())
        .on_query("work", gated);
    let stage = Stage::of(builder).await;
    let first = stage.ask("work", &1);
    let others = async {
        begun.recv().await.unwrap();
        for _ in 0..3 {
            assert_eq!(stage.failure("work", &2).await.0, FailureReason::Shed);
        }
        gate.let_go(1);
    };
    let (first, ()) = tokio::join!(first, others);
    first.unwrap();
    gate.let_go(1);
    stage.ask("work", &3).await.unwrap();
    let report = stage.close().await;
    assert_eq!((report.succeeded, report.shed_busy), (2, 3));
}

/// Layers of tower itself, one that is not `Clone` and one that changes the error, in the order of tower's builder.
#[tokio::test]
async fn any_tower_layer_goes_around_the_handlers() {
    #[derive(Debug, thiserror::Error)]
    #[error("seen by the layer")]
    struct Seen(#[source] tower::BoxError);

    let aether = Aether::local();
    let (outer, inner) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counts = |counter: &Arc<AtomicU32>, other: &Arc<AtomicU32>| {
        let (counter, other) = (Arc::clone(counter), Arc::clone(other));
        MapRequestLayer::new(move |wave: Wave| {
            // Called before the one inside.
            assert!(counter.fetch_add(1, Ordering::Relaxed) >= other.load(Ordering::Relaxed));
            wave
        })
    };
    let service = Service::builder("service")
        .on_query("good", async || {})
        .on_query("bad", async || -> Result<(), Rejection> { Err(Rejection::new("no")) })
        .layer(counts(&outer, &inner))
        .layer(RateLimitLayer::new(1000, LONG))
        .layer(MapErrLayer::new(Seen))
        .layer(counts(&inner, &Arc::default()))
        .build(&aether)
        .await
        .unwrap();
    let stage = Stage::run(&aether, service).await;
    stage.ask("good", &()).await.unwrap();
    let (reason, hint) = stage.failure("bad", &()).await;
    assert_eq!((reason, hint.as_str()), (FailureReason::Rejected, "seen by the layer: no"));
    assert_eq!((outer.load(Ordering::Relaxed), inner.load(Ordering::Relaxed)), (2, 2));
    let report = stage.close().await;
    assert_eq!((report.succeeded, report.rejected), (1, 1));
}

#[tokio::test]
async fn a_layer_that_panics_fails_its_wave_and_not_the_service() {
    /// Panics at the first call only.
    fn once(panicked: &'static AtomicBool) {
        assert!(panicked.swap(true, Ordering::Relaxed), "a layer panics");
    }
    static BEFORE: AtomicBool = AtomicBool::new(false);
    static AFTER: AtomicBool = AtomicBool::new(false);
    let aether = Aether::local();
    let service = Service::builder("service")
        .on_query("work", async || {})
        .layer(MapRequestLayer::new(|wave: Wave| {
            once(&BEFORE);
            wave
        }))
        .layer(MapResponseLayer::new(|answer| {
            once(&AFTER);
            answer
        }))
        .build(&aether)
        .await
        .unwrap();
    let stage = Stage::run(&aether, service).await;
    for _ in 0..2 {
        let (reason, hint) = stage.failure("work", &()).await;
        assert_eq!(reason, FailureReason::HandlerFailed);
        assert!(hint.ends_with("a layer panics"), "{hint}");
    }
    stage.ask("work", &()).await.unwrap();
    let report = stage.close().await;
    assert_eq!((report.panicked, report.succeeded), (2, 1));
}
