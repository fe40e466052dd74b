//! The circuit breaker: a circuit that opens loses nothing, however many waves are handled at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aether_core::{Aether, FailureReason, Kind, Wave};
use aether_service::health::Health;
use aether_service::{Breaker, Rejection, Service, ServiceReport, State};
use tokio::sync::{Notify, mpsc};
use tokio::task::yield_now;
use tower::util::MapRequestLayer;

use crate::service::stage::{LONG, Stage};

/// Fails while `fails` is set, and rejects "bad".
async fn moody(
    State(fails): State<Arc<AtomicBool>>,
    wave: Wave,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if wave.text().is_ok_and(|text| text == "\"bad\"") {
        return Err(Rejection::new("bad").into());
    }
    if fails.load(Ordering::Relaxed) { Err("in a bad mood".into()) } else { Ok(()) }
}

/// A dependency of the handler that is down at first.
#[derive(Default)]
struct Outage {
    failed: AtomicUsize,
    handled: AtomicUsize,
    done: Notify,
}

const WAVES: usize = 1000;
/// The number of failures before the dependency is back.
const FAILURES: usize = 100;

async fn away_at_first(State(outage): State<Arc<Outage>>) -> Result<(), std::io::Error> {
    // Many handlers are running when the circuit opens.
    yield_now().await;
    let failed = outage.failed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |failed| {
        (failed < FAILURES).then_some(failed + 1)
    });
    let result = match failed {
        Ok(_) => Err(std::io::Error::other("away")),
        Err(_) => Ok(()),
    };
    if outage.handled.fetch_add(1, Ordering::Relaxed) + 1 == WAVES {
        outage.done.notify_one();
    }
    result
}

/// A thousand commands while the circuit opens and closes.
async fn through_an_outage(concurrency: usize) -> ServiceReport {
    let aether = Aether::local();
    let outage = Arc::new(Outage::default());
    let service = Service::builder("stock")
        .concurrency(concurrency)
        .circuit_breaker(Breaker::default().failures(5).open_for(Duration::from_millis(2)))
        .state(Arc::clone(&outage))
        .on("stock.*", away_at_first)
        .build(&aether)
        .await
        .unwrap();
    let stage = Stage::run(&aether, service).await;
    for _ in 0..WAVES {
        let command = Wave::builder("stock.reserve").kind(Kind::Command).build().unwrap();
        stage.user.emit(command).await.unwrap();
    }
    tokio::time::timeout(LONG, outage.done.notified()).await.expect("all of them are handled");
    let report = stage.close().await;
    let ledger = aether.ledger();
    assert!(ledger.adds_up(), "{ledger:?}");
    assert_eq!(ledger.lost(), 0, "{ledger:?}");
    report
}

fn assert_nothing_lost(report: ServiceReport) {
    let whole = (report.received, report.succeeded, report.failed);
    assert_eq!(whole, (WAVES as u64, (WAVES - FAILURES) as u64, FAILURES as u64), "{report}");
    assert!(report.adds_up(), "{report}");
}

#[tokio::test]
async fn a_circuit_that_opens_and_closes_loses_nothing_on_one_thread() {
    for concurrency in [1, 8, 64] {
        assert_nothing_lost(through_an_outage(concurrency).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_circuit_that_opens_and_closes_loses_nothing_on_several_threads() {
    for concurrency in [1, 8, 64] {
        assert_nothing_lost(through_an_outage(concurrency).await);
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_circuit_is_open_waves_wait_in_the_inbox_where_the_strongest_is_next() {
    let (told, mut handled) = mpsc::unbounded_channel();
    let fails = Arc::new(AtomicBool::new(true));
    let state = (Arc::clone(&fails), told);
    let handler = async |State((fails, told)): State<(Arc<AtomicBool>, mpsc::UnboundedSender<Wave>)>,
                         wave: Wave| {
        let failed = fails.load(Ordering::Relaxed);
        let _ = told.send(wave);
        if failed { Err(std::io::Error::other("away")) } else { Ok(()) }
    };
    let builder = Service::builder("service")
        .concurrency(8)
        .circuit_breaker(Breaker::default().failures(1).open_for(LONG))
        .state(state)
        .on("work.*", handler);
    let stage = Stage::of(builder).await;
    stage.emit("work.first", &()).await;
    assert_eq!(handled.recv().await.unwrap().channel().as_str(), "work.first");
    while stage.counters.report().in_flight > 0 {
        yield_now().await;
    }
    fails.store(false, Ordering::Relaxed);
    stage.emit("work.weak", &()).await;
    let strong = Wave::builder("work.strong").amplitude(0.9).build().unwrap();
    stage.user.emit(strong).await.unwrap();
    // Long after their arrival, but before the circuit tries again.
    tokio::time::sleep(LONG / 2).await;
    assert_eq!(stage.counters.report().received, 1);
    assert_eq!(handled.recv().await.unwrap().channel().as_str(), "work.strong");
    assert_eq!(handled.recv().await.unwrap().channel().as_str(), "work.weak");
    let report = stage.close().await;
    assert_eq!((report.received, report.succeeded, report.failed), (3, 2, 1), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_tries_one_wave_at_a_time() {
    let (begun, mut begins) = mpsc::unbounded_channel();
    let (ends, ended) = async_ends();
    let handler = async |State((begun, ended)): State<(mpsc::UnboundedSender<()>, Ends)>| {
        begun.send(()).unwrap();
        let ok = ended.lock().await.recv().await.unwrap();
        if ok { Ok(()) } else { Err(std::io::Error::other("away")) }
    };
    let builder = Service::builder("service")
        .concurrency(8)
        .circuit_breaker(Breaker::default().failures(1).open_for(LONG))
        .state((begun, ended))
        .on("work", handler);
    let stage = Stage::of(builder).await;
    stage.emit("work", &()).await;
    begins.recv().await.unwrap();
    ends.send(false).unwrap();
    while stage.counters.report().in_flight > 0 {
        yield_now().await;
    }
    for _ in 0..4 {
        stage.emit("work", &()).await;
    }
    // The trial fails, and the circuit stays open for the same time again.
    begins.recv().await.unwrap();
    tokio::time::sleep(LONG * 3).await;
    assert_eq!(stage.counters.report().received, 2, "one at a time");
    ends.send(false).unwrap();
    tokio::time::sleep(LONG / 2).await;
    assert_eq!(stage.counters.report().received, 2);
    // The next one is handled, and the others follow.
    begins.recv().await.unwrap();
    assert_eq!(stage.counters.report().received, 3);
    for _ in 0..3 {
        ends.send(true).unwrap();
    }
    for _ in 0..2 {
        begins.recv().await.unwrap();
    }
    while stage.counters.report().in_flight > 0 {
        yield_now().await;
    }
    let report = stage.close().await;
    assert_eq!((report.received, report.succeeded, report.failed), (5, 3, 2), "{report}");
}

type Ends = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<bool>>>;

fn async_ends() -> (mpsc::UnboundedSender<bool>, Ends) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Arc::new(tokio::sync::Mutex::new(receiver)))
}

#[tokio::test]
async fn a_service_that_ends_while_its_circuit_is_open_reports_what_was_left() {
    let fails = Arc::new(AtomicBool::new(true));
    let builder = Service::builder("service")
        .circuit_breaker(Breaker::default().failures(1).open_for(LONG))
        .state(fails)
        .on_query("work", moody);
    let stage = Stage::of(builder).await;
    assert_eq!(stage.failure("work", &()).await.0, FailureReason::HandlerFailed);
    for _ in 0..3 {
        stage.emit("work", &()).await;
    }
    let report = stage.close().await;
    assert_eq!((report.failed, report.left, report.shed_circuit_open), (1, 3, 0), "{report}");
}

/// An answer of a layer does not count as a result of the handler, so the next wave is tried.
#[tokio::test]
async fn a_trial_that_never_reaches_the_handler_is_followed_by_another() {
    let fails = Arc::new(AtomicBool::new(true));
    let builder = Service::builder("service")
        .circuit_breaker(Breaker::default().failures(1).open_for(Duration::from_millis(1)))
        .state(Arc::clone(&fails))
        .on_query("work", moody)
        .layer(MapRequestLayer::new(|wave: Wave| {
            assert!(wave.text().is_ok_and(|text| text != "\"stop\""), "a layer panics");
            wave
        }));
    let aether = Aether::local();
    let stage = Stage::run(&aether, builder.build(&aether).await.unwrap()).await;
    assert_eq!(stage.failure("work", &()).await.0, FailureReason::HandlerFailed);
    fails.store(false, Ordering::Relaxed);
    for _ in 0..3 {
        let (_, hint) = stage.failure("work", &"stop").await;
        assert!(hint.contains("a layer panics"), "{hint}");
    }
    stage.ask("work", &()).await.unwrap();
    let report = stage.close().await;
    assert_eq!((report.failed, report.panicked, report.succeeded), (1, 3, 1), "{report}");
}

#[tokio::test]
async fn a_circuit_that_opened_refuses_where_the_service_sheds() {
    let fails = Arc::new(AtomicBool::new(true));
    let builder = Service::builder("service")
        .shed_when_busy()
        .circuit_breaker(Breaker::default().failures(2).open_for(LONG))
        .state(Arc::clone(&fails))
        .on_query("work", moody);
    let stage = Stage::of(builder).await;
    // Rejections are the sender's fault, and no reason to stop.
    for _ in 0..8 {
        assert_eq!(stage.failure("work", &"bad").await.0, FailureReason::Rejected);
    }
    for _ in 0..2 {
        assert_eq!(stage.failure("work", &()).await.0, FailureReason::HandlerFailed);
    }
    fails.store(false, Ordering::Relaxed);
    let (reason, hint) = stage.failure("work", &()).await;
    assert!(hint.contains("circuit breaker is open"), "{hint}");
    assert_eq!(reason, FailureReason::Shed);
    let report = stage.close().await;
    assert_eq!((report.rejected, report.failed, report.shed_circuit_open), (8, 2, 1));
}

#[tokio::test]
async fn a_circuit_that_opened_lets_waves_wait_and_closes_again() {
    let fails = Arc::new(AtomicBool::new(true));
    let builder = Service::builder("service")
        .circuit_breaker(Breaker::default().failures(2).open_for(Duration::from_millis(20)))
        .state(Arc::clone(&fails))
        .on_query("work", moody);
    let stage = Stage::of(builder).await;
    for _ in 0..2 {
        assert_eq!(stage.failure("work", &()).await.0, FailureReason::HandlerFailed);
    }
    fails.store(false, Ordering::Relaxed);
    for _ in 0..10 {
        stage.ask("work", &()).await.unwrap();
    }
    let report = stage.close().await;
    assert_eq!((report.failed, report.succeeded, report.shed_circuit_open), (2, 10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_process_with_an_open_circuit_is_not_ready_and_says_why() {
    let aether = Aether::local();
    let fails = Arc::new(AtomicBool::new(true));
    let service = Service::builder("stock")
        .circuit_breaker(Breaker::default().failures(1).open_for(Duration::from_secs(10)))
        .state(Arc::clone(&fails))
        .on("stock.*", moody)
        .build(&aether)
        .await
        .unwrap();
    let stage = Stage::run(&aether, service).await;
    assert_eq!(Health::of(&aether), Health::ready());
    let ask = async |text: &str| stage.ask("stock.reserve", &text).await;
    ask("fails").await.unwrap_err();
    let health = Health::of(&aether);
    assert_eq!((health.ready, health.reasons[0].code), (false, "circuit_open"));
    assert_eq!(health.to_string(), "not ready: the circuit breaker of the service stock is open for stock.*");
    // After its time it is half open, whether a wave comes or not.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(Health::of(&aether).ready, "{}", Health::of(&aether));
    ask("fails in the trial").await.unwrap_err();
    assert!(!Health::of(&aether).ready);
    // One wave is tried, and closes it.
    fails.store(false, Ordering::Relaxed);
    stage.emit("stock.reserve", &"works").await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(Health::of(&aether).ready, "{}", Health::of(&aether));
    fails.store(true, Ordering::Relaxed);
    ask("fails again").await.unwrap_err();
    assert!(!Health::of(&aether).ready);
    stage.close().await;
    assert!(Health::of(&aether).ready, "a service that has ended does not count");
}
