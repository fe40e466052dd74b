//! Handlers that are run again: weaker, bounded, and counted.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, FailureReason, Wave};
use aether_service::{Json, Rejection, Resend, RetryBudget, Service, State};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::service::stage::{LONG, Stage};

/// The amplitude and attempt of each wave that a handler received.
type Seen = Arc<Mutex<Vec<(f32, u8)>>>;

fn unlimited() -> Resend {
    Resend::default().budget(RetryBudget::unlimited())
}

/// Fails until it has received a wave as often as its payload demands.
async fn reluctant(
    State(seen): State<Seen>,
    Json(times): Json<usize>,
    wave: Wave,
) -> Result<&'static str, &'static str> {
    let mut seen = seen.lock();
    seen.push((wave.amplitude().as_f32(), wave.attempt()));
    if seen.len() < times { Err("not yet") } else { Ok("at last") }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_is_run_again_at_half_the_strength() {
    let seen = Seen::default();
    let builder =
        Service::builder("service").retry(unlimited()).state(Arc::clone(&seen)).on_query("work", reluctant);
    let stage = Stage::of(builder).await;
    assert_eq!(stage.ask("work", &3).await.unwrap().text().unwrap(), "at last");
    assert_eq!(*seen.lock(), [(0.5, 0), (0.25, 1), (0.125, 2)]);
    let report = stage.close().await;
    assert_eq!((report.received, report.retried, report.succeeded), (3, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_energy_bound_can_be_switched_off() {
    let seen = Seen::default();
    let builder = Service::builder("service")
        .retry(unlimited().undiminished())
        .state(Arc::clone(&seen))
        .on_query("work", reluctant);
    let stage = Stage::of(builder).await;
    stage.ask("work", &3).await.unwrap();
    assert_eq!(*seen.lock(), [(0.5, 0), (0.5, 1), (0.5, 2)]);
    assert_eq!(stage.close().await.retried, 2);
}

#[tokio::test(start_paused = true)]
async fn a_wave_that_failed_waits_behind_fresh_ones() {
    #[derive(Clone)]
    struct Shop {
        order: Arc<Mutex<Vec<String>>>,
        gate: Arc<Semaphore>,
    }
    async fn work(State(shop): State<Shop>, wave: Wave) -> Result<(), &'static str> {
        shop.order.lock().push(format!("{} {}", wave.text().unwrap(), wave.attempt()));
        if wave.text().unwrap() == "failing" {
            return if wave.attempt() == 0 { Err("at first") } else { Ok(()) };
        }
        shop.gate.acquire().await.unwrap().forget();
        Ok(())
    }
    let shop = Shop { order: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
    let builder = Service::builder("service")
        .concurrency(1)
        .retry(unlimited())
        .state(shop.clone())
        .on_query("work", work);
    let stage = Stage::of(builder).await;
    let emit = async |text: &str, amplitude: f32| {
        stage
            .user
            .emit(Wave::builder("work").text(text).amplitude(amplitude).build().unwrap())
            .await
            .unwrap();
    };
    emit("failing", 0.8).await;
    emit("fresh 1", 0.5).await;
    // Longer than the pause: time is paused and advances by timers, so everything due has happened.
    sleep(LONG).await;
    emit("fresh 2", 0.5).await;
    shop.gate.add_permits(2);
    sleep(LONG).await;
    assert_eq!(*shop.order.lock(), ["failing 0", "fresh 1 0", "fresh 2 0", "failing 1"]);
    let report = stage.close().await;
    assert_eq!((report.received, report.retried, report.succeeded), (4, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn waves_that_pause_before_a_retry_leave_their_places_to_others() {
    async fn work(State(handled): State<Arc<Mutex<Vec<Instant>>>>, wave: Wave) -> Result<(), &'static str> {
        if wave.text().unwrap() == "failing" {
            return Err("not yet");
        }
        handled.lock().push(Instant::now());
        Ok(())
    }
    for has_layers in [false, true] {
        let handled = Arc::<Mutex<Vec<Instant>>>::default();
        let pauses = unlimited().most(1).pauses(LONG, LONG).unwrap();
        let mut builder = Service::builder("service").concurrency(1).retry(pauses);
        if has_layers {
            builder = builder.rate(1_000_000, Duration::from_secs(1));
        }
        let stage = Stage::of(builder.state(Arc::clone(&handled)).on("work", work)).await;
        let begun = Instant::now();
        for text in ["failing", "failing", "failing", "good", "good"] {
            stage.user.emit(Wave::builder("work").text(text)).await.unwrap();
        }
        sleep(2 * LONG).await;
        let waited: Vec<_> = handled.lock().iter().map(|at| (*at - begun).as_millis()).collect();
        assert_eq!(waited, [0, 0], "layers: {has_layers}");
        let report = stage.close().await;
        assert_eq!((report.retried, report.failed, report.succeeded), (3, 3, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_takes_no_more_waves_while_very_many_pause_before_a_retry() {
    async fn single(_: Wave) -> Result<(), &'static str> {
        Err("never")
    }
    async fn batch(_: Vec<Wave>) -> Result<(), &'static str> {
        Err("never")
    }
    let pauses = || unlimited().most(1).pauses(LONG * 1_000_000, LONG * 1_000_000).unwrap();
    for builder in [
        Service::builder("service").retry(pauses()).on("work", single),
        Service::builder("service")
            .retry(pauses())
            .rate(1_000_000, Duration::from_secs(1))
            .on("work", single),
        Service::builder("service").retry(pauses()).on_batch("work", 8, batch),
    ] {
        let stage = Stage::of(builder).await;
        for number in 0..3000 {
            stage.emit("work", &number).await;
        }
        sleep(Duration::from_secs(1)).await;
        let received = stage.counters.report().received;
        assert!((1024..1200).contains(&received), "{received}");
        let report = stage.close().await;
        assert_eq!(report.in_flight, 0, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_the_asker_is_told_once_of_the_last() {
    let builder = Service::builder("service")
        .retry(unlimited().most(2))
        .on_query("work", async || -> Result<(), &str> { Err("never") })
        .on_query("refuses", async || -> Result<(), Rejection> { Err(Rejection::new("no")) });
    let stage = Stage::of(builder).await;
    assert_eq!(stage.failure("work", &()).await, (FailureReason::HandlerFailed, "never".to_owned()));
    let report = stage.counters.report();
    assert_eq!((report.received, report.retried, report.failed), (3, 2, 1));
    // A rejected wave is never retried.
    assert_eq!(stage.failure("refuses", &()).await.0, FailureReason::Rejected);
    let report = stage.close().await;
    assert_eq!((report.received, report.retried, report.rejected), (4, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_the_attempts_of_all_waves_together() {
    let builder = Service::builder("service")
        .concurrency(1)
        .retry(Resend::default().budget(RetryBudget::new(10, 0)))
        .on("work", async || -> Result<(), &str> { Err("never") });
    let stage = Stage::of(builder).await;
    for number in 0..200 {
        stage.emit("work", &number).await;
    }
    // Less than the window of the budget.
    sleep(Duration::from_secs(9)).await;
    let report = stage.close().await;
    assert_eq!((report.received, report.retried, report.failed), (220, 20, 200));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_accounted_for_whatever_happens() {
    async fn anything(Json(number): Json<u32>, wave: Wave) -> Result<(), &'static str> {
        match (number + u32::from(wave.attempt())) % 5 {
            0 => Err("an error"),
            1 => panic!("a panic"),
            2 => std::future::pending().await,
            _ => Ok(()),
        }
    }
    let aether = Aether::local();
    let builder = Service::builder("service")
        .concurrency(8)
        .time_out(Duration::from_millis(100))
        .retry(unlimited().most(1))
        .on("work", anything);
    let stage = Stage::on(aether.clone(), builder).await;
    for number in 0..500 {
        stage.emit("work", &number).await;
        assert!(stage.counters.report().adds_up());
    }
    stage.emit("work", &"no number").await;
    sleep(LONG).await;
    let report = stage.close().await;
    // Of five in a row: 0 fails and panics, 1 panics and times out, 2 times out and succeeds, the others succeed.
    assert_eq!((report.received, report.retried, report.succeeded), (801, 300, 300), "{report}");
    assert_eq!((report.panicked, report.timed_out, report.failed, report.rejected), (100, 100, 0, 1));
    // It matches the ledger of the inbox, which outlives the service.
    let inboxes = aether.inboxes();
    let inbox = inboxes.iter().find(|inbox| inbox.vibrator == "service").unwrap();
    assert_eq!((inbox.ledger.delivered, inbox.ledger.lost()), (report.received, 0));
}
