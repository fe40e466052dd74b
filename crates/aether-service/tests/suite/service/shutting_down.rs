//! Shutdown: running handlers may finish, the rest is reported and counted.

use std::time::Duration;

use aether_core::{Aether, AskError, Failure, FailureReason, Vibrator};
use aether_service::{CancellationToken, Resend, RetryBudget, Service};

use crate::service::stage::{Gate, LONG, Stage, gated};

fn told(asked: Result<aether_core::Wave, AskError>) -> (FailureReason, String) {
    match asked {
        Err(AskError::Failed { source: Failure { reason, hint, .. }, .. }) => (reason, hint),
        other => panic!("not a failure that was told: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_being_handled_may_finish_and_nothing_more_is_heard() {
    let (gate, mut begun) = Gate::new();
    // A busy machine may take longer than the default.
    let builder = Service::builder("service").grace(LONG).state(gate.clone()).on_query("work", gated);
    let stage = Stage::of(builder).await;
    let asking = stage.ask("work", &1);
    let ending = async {
        begun.recv().await.unwrap();
        stage.shut_down();
        // It is unsubscribed, but still works.
        while !matches!(stage.ask("work", &2).await, Err(AskError::NoResonator { .. })) {}
        gate.let_go(1);
    };
    let (answered, ()) = tokio::join!(asking, ending);
    answered.unwrap();
    let report = stage.ended().await;
    assert_eq!((report.succeeded, report.abandoned), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_in_time_is_ended_told_and_counted() {
    let (gate, mut begun) = Gate::new();
    let builder = Service::builder("service")
        .grace(Duration::from_secs(3))
        .concurrency(2)
        .state(gate)
        .on_query("work", gated);
    let stage = Stage::of(builder).await;
    let begun_at = tokio::time::Instant::now();
    let ending = async {
        for _ in 0..2 {
            begun.recv().await.unwrap();
        }
        stage.shut_down();
    };
    let asking = async {
        tokio::join!(
            stage.ask("work", &1),
            stage.ask("work", &2),
            stage.ask("work", &3),
            stage.ask("work", &4)
        )
    };
    let (asked, ()) = tokio::join!(asking, ending);
    for begun in [asked.0, asked.1] {
        let (reason, hint) = told(begun);
        assert_eq!(reason, FailureReason::HandlerFailed);
        assert!(hint.contains("ended in the middle"), "{hint}");
    }
    for waiting in [asked.2, asked.3] {
        assert_eq!(told(waiting).0, FailureReason::Shed);
    }
    assert_eq!(begun_at.elapsed(), Duration::from_secs(3));
    let report = stage.ended().await;
    assert_eq!((report.received, report.abandoned, report.left, report.in_flight), (4, 2, 2, 0));
    assert!(report.to_string().contains("2 ended in the middle"), "{report}");
}

#[tokio::test]
async fn a_backlog_of_any_length_is_counted() {
    let (gate, mut begun) = Gate::new();
    let builder = Service::builder("service").grace(LONG).concurrency(1);
    let stage = Stage::of(builder.state(gate.clone()).on("work", gated)).await;
    for number in 0..5000 {
        stage.emit("work", &number).await;
    }
    begun.recv().await.unwrap();
    stage.shut_down();
    gate.let_go(1);
    let report = stage.ended().await;
    assert_eq!((report.received, report.succeeded, report.left), (5000, 1, 4999));
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_tried_again_has_failed() {
    let resend = Resend::default().pauses(LONG * 1000, LONG * 1000).unwrap().budget(RetryBudget::unlimited());
    let (gate, mut begun) = Gate::new();
    let builder = Service::builder("service").retry(resend).state(gate.clone()).on_query(
        "work",
        async |state, wave| {
            gated(state, wave).await;
            Err::<(), _>("broken")
        },
    );
    let stage = Stage::of(builder).await;
    let ending = async {
        begun.recv().await.unwrap();
        gate.let_go(1);
        // Time is paused and advances by timers: the handler has failed by then.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(stage.counters.report().in_flight, 1);
        stage.shut_down();
    };
    let (asked, ()) = tokio::join!(stage.ask("work", &1), ending);
    assert_eq!(told(asked), (FailureReason::HandlerFailed, "broken".to_owned()));
    let report = stage.ended().await;
    assert_eq!((report.received, report.failed, report.retried), (1, 1, 0));
}

#[tokio::test]
async fn a_service_that_is_dropped_counts_what_it_abandons() {
    let aether = Aether::local();
    let (gate, mut begun) = Gate::new();
    let builder = Service::builder("service").state(gate).on("work", gated);
    let service = builder.build(&aether).await.unwrap();
    let counters = service.counters();
    let running = tokio::spawn(service.run_until(CancellationToken::new()));
    let user = Vibrator::create("user", &aether).await.unwrap();
    user.emit_wave("work", &1).await.unwrap();
    begun.recv().await.unwrap();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    // The sender is dropped with the handler.
    assert!(begun.recv().await.is_none());
    let report = counters.report();
    assert_eq!((report.received, report.abandoned, report.in_flight), (1, 1, 0));
    assert!(report.adds_up());
}
