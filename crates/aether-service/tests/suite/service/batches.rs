//! Handlers of batches: many waves in one call, and an account for each of them.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Emitter, FailureReason, Wave};
use aether_service::{Breaker, Json, Resend, RetryBudget, Service, ServiceBuilder, ServiceError, State};
use tokio::sync::{Semaphore, mpsc};

use crate::service::stage::{LONG, Stage};

/// The most waves at once.
const MOST: usize = 4;
/// A number with which the handler fails, panics or hangs.
const FAILS: u32 = 1000;
const PANICS: u32 = 1001;
const HANGS: u32 = 1002;
const FAILS_ONCE: u32 = 1003;

/// Reports each batch as it begins, and lets it end.
#[derive(Clone)]
struct Shelf {
    begun: mpsc::UnboundedSender<Vec<u32>>,
    may_end: Arc<Semaphore>,
}

async fn store(State(shelf): State<Shelf>, rows: Vec<(Json<u32>, Wave)>) -> Result<(), &'static str> {
    let numbers: Vec<_> = rows.iter().map(|(number, _)| number.0).collect();
    shelf.begun.send(numbers.clone()).unwrap();
    shelf.may_end.acquire().await.unwrap().forget();
    if numbers.contains(&HANGS) {
        std::future::pending::<()>().await;
    }
    assert!(!numbers.contains(&PANICS), "the shelf broke");
    let is_first = rows.iter().all(|(_, wave)| wave.attempt() == 0);
    if numbers.contains(&FAILS) || (numbers.contains(&FAILS_ONCE) && is_first) {
        return Err("the shelf is full");
    }
    Ok(())
}

fn service() -> (ServiceBuilder<Shelf>, Shelf, mpsc::UnboundedReceiver<Vec<u32>>) {
    let (begun, batches) = mpsc::unbounded_channel();
    let shelf = Shelf { begun, may_end: Arc::new(Semaphore::new(0)) };
    let builder = Service::builder("archive").state(shelf.clone()).on_batch("rows.*", MOST, store);
    (builder, shelf, batches)
}

/// A service whose handler is busy with one wave, so that the next ones collect.
async fn busy(builder: ServiceBuilder<Shelf>, batches: &mut mpsc::UnboundedReceiver<Vec<u32>>) -> Stage {
    let stage = Stage::of(builder).await;
    stage.emit("rows.new", &0).await;
    assert_eq!(batches.recv().await.unwrap(), [0], "no wave waits for a batch to fill");
    stage
}

#[tokio::test(start_paused = true)]
async fn waves_that_collect_are_handled_together_the_strongest_first() {
    let (builder, shelf, mut batches) = service();
    let stage = busy(builder, &mut batches).await;
    for number in 1..=5 {
        stage.emit("rows.new", &number).await;
    }
    stage.user.emit(Wave::builder("rows.urgent").amplitude(1.0).json(6)).await.unwrap();
    shelf.may_end.add_permits(3);
    assert_eq!(batches.recv().await.unwrap(), [6, 1, 2, 3]);
    assert_eq!(batches.recv().await.unwrap(), [4, 5]);
    let report = stage.close().await;
    assert_eq!((report.received, report.succeeded), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn a_wave_that_cannot_be_read_is_rejected_alone() {
    let (builder, shelf, mut batches) = service();
    let stage = busy(builder, &mut batches).await;
    let unreadable = stage.failure("rows.new", &"text");
    let ((reason, hint), ()) = tokio::join!(unreadable, async {
        stage.emit("rows.new", &1).await;
        shelf.may_end.add_permits(2);
        assert_eq!(batches.recv().await.unwrap(), [1]);
    });
    assert_eq!(reason, FailureReason::Rejected, "{hint}");
    let report = stage.close().await;
    assert_eq!((report.rejected, report.succeeded), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_or_a_panic_counts_for_every_wave_of_the_batch() {
    let (builder, shelf, mut batches) = service();
    let stage = busy(builder, &mut batches).await;
    shelf.may_end.add_permits(3);
    for (number, hint) in [(FAILS, "the shelf is full"), (PANICS, "the shelf broke")] {
        let (failed, other) =
            tokio::join!(stage.failure("rows.new", &number), stage.failure("rows.new", &number));
        for (reason, text) in [failed, other] {
            assert_eq!(reason, FailureReason::HandlerFailed);
            assert!(text.contains("the batch of 2 waves failed") && text.contains(hint), "{text}");
        }
    }
    let report = stage.close().await;
    assert_eq!((report.failed, report.panicked, report.succeeded), (2, 2, 1));
}

/// A number whose deserialization panics.
struct Breaks;

impl<'de> serde::Deserialize<'de> for Breaks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        assert_ne!(u32::deserialize(deserializer)?, PANICS, "the extractor broke");
        Ok(Self)
    }
}

#[tokio::test(start_paused = true)]
async fn a_wave_whose_extractor_panics_fails_alone_and_ends_nothing() {
    async fn count(State(sizes): State<mpsc::UnboundedSender<usize>>, rows: Vec<Json<Breaks>>) {
        sizes.send(rows.len()).unwrap();
        // The next waves collect.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (sender, mut sizes) = mpsc::unbounded_channel();
    let builder = Service::builder("archive").state(sender).on_batch("rows.*", MOST, count);
    let stage = Stage::of(builder).await;
    stage.emit("rows.new", &0).await;
    assert_eq!(sizes.recv().await, Some(1));
    let ((reason, hint), ()) = tokio::join!(stage.failure("rows.new", &PANICS), async {
        for number in [1, 2] {
            stage.emit("rows.new", &number).await;
        }
    });
    assert_eq!(reason, FailureReason::HandlerFailed);
    assert!(hint.contains("the extractor broke"), "{hint}");
    assert_eq!(sizes.recv().await, Some(2));
    stage.emit("rows.new", &3).await;
    assert_eq!(sizes.recv().await, Some(1), "the service goes on");
    let report = stage.close().await;
    assert_eq!((report.received, report.succeeded, report.panicked), (5, 4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_is_tried_again() {
    let (builder, shelf, mut batches) = service();
    let stage = busy(builder.retry(Resend::default().budget(RetryBudget::unlimited())), &mut batches).await;
    for number in [FAILS_ONCE, 1] {
        stage.emit("rows.new", &number).await;
    }
    shelf.may_end.add_permits(100);
    assert_eq!(batches.recv().await.unwrap(), [FAILS_ONCE, 1]);
    let mut again = Vec::new();
    while again.len() < 2 {
        again.extend(batches.recv().await.unwrap());
    }
    again.sort_unstable();
    assert_eq!(again, [1, FAILS_ONCE]);
    let report = stage.close().await;
    assert_eq!((report.retried, report.succeeded, report.failed), (2, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_hangs_is_timed_out_and_opens_the_circuit() {
    let (builder, shelf, mut batches) = service();
    let breaker = Breaker::default().failures(1).open_for(Duration::from_secs(5));
    let builder = builder.time_out(Duration::from_secs(1)).circuit_breaker(breaker);
    let stage = busy(builder, &mut batches).await;
    shelf.may_end.add_permits(3);
    let begun = tokio::time::Instant::now();
    stage.failure("rows.new", &HANGS).await;
    assert_eq!(begun.elapsed().as_secs(), 1);
    stage.emit("rows.new", &1).await;
    assert_eq!(batches.recv().await.unwrap(), [HANGS]);
    assert_eq!(batches.recv().await.unwrap(), [1]);
    assert_eq!(begun.elapsed().as_secs(), 6, "it waited while the circuit was open");
    assert_eq!(stage.close().await.timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_a_batch_has_the_grace_period_and_the_rest_is_left() {
    let (builder, _shelf, mut batches) = service();
    let stage = busy(builder.grace(Duration::from_secs(3)), &mut batches).await;
    stage.emit("rows.new", &1).await;
    let begun = tokio::time::Instant::now();
    stage.shut_down();
    let report = stage.ended().await;
    assert_eq!((report.abandoned, report.left, begun.elapsed().as_secs()), (1, 1, 3));
}

#[tokio::test]
async fn an_emitter_of_an_item_names_its_wave_as_the_cause() {
    async fn copy(rows: Vec<(Wave, Emitter)>) -> Result<(), aether_core::EmitError> {
        for (wave, emitter) in rows {
            emitter.emit_bytes("copies", wave.payload().clone()).await?;
        }
        Ok(())
    }
    let aether = Aether::local();
    let mut copies = crate::service::stage::listener(&aether, "copies").await;
    let stage = Stage::on(aether, Service::builder("copier").on_batch("rows.*", MOST, copy)).await;
    let sent = stage.user.emit_bytes("rows.new", "a row").await.unwrap();
    let copied = tokio::time::timeout(LONG, copies.receive()).await.unwrap().unwrap();
    assert_eq!(copied.cause(), Some(&stage.user.emitter().id_of(&sent)));
    stage.close().await;
}

#[tokio::test]
async fn a_batch_of_no_waves_and_limits_that_count_single_waves_are_refused() {
    async fn ignore(_: Vec<Wave>) {}
    let aether = Aether::local();
    let refused = Service::builder("archive").on_batch("rows.*", 0, ignore).build(&aether).await;
    assert!(matches!(refused, Err(ServiceError::EmptyBatch { .. })), "{refused:?}");
    let limited = Service::builder("archive").rate(1, LONG).on_batch("rows.*", 2, ignore);
    let refused = limited.build(&aether).await;
    assert!(matches!(refused, Err(ServiceError::LimitedBatches { .. })), "{refused:?}");
    let shared = Service::builder("archive").on("rows.new", async || {}).on_batch("rows.*", 2, ignore);
    let refused = shared.build(&aether).await;
    assert!(matches!(refused, Err(ServiceError::SeparateLimits { .. })), "{refused:?}");
}
