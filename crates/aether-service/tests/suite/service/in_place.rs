//! Handlers that are quick are polled in place, in the task of the service. They behave as they do in tasks of their own.

use std::time::Duration;

use aether_core::{FailureReason, Wave};
use aether_service::{Breaker, Json, Resend, RetryBudget, Service, ServiceBuilder, State};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::Id;

use crate::service::stage::Stage;

/// After this many quick waves a handler is polled in place.
const WARM_UP: u32 = 8;

type Tasks = mpsc::UnboundedSender<Id>;

/// The actions of the handler with a wave.
const ANSWER: u32 = 0;
const FAIL: u32 = 1;
const PANIC: u32 = 2;
const BLOCK: u32 = 3;
const HANG: u32 = 4;
const FAIL_ONCE: u32 = 5;

async fn moody(
    State(tasks): State<Tasks>,
    Json(mood): Json<u32>,
    wave: Wave,
) -> Result<Json<u32>, &'static str> {
    tasks.send(tokio::task::id()).unwrap();
    match mood {
        FAIL => Err("in a bad mood"),
        FAIL_ONCE if wave.attempt() == 0 => Err("in a bad mood"),
        PANIC => panic!("in a very bad mood"),
        BLOCK => {
            // The paused clock moves on in the middle of the poll.
            let _ = tokio::time::advance(Duration::from_millis(1)).now_or_never();
            Ok(Json(mood))
        }
        HANG => std::future::pending().await,
        _ => Ok(Json(mood)),
    }
}

fn service() -> (ServiceBuilder<Tasks>, mpsc::UnboundedReceiver<Id>) {
    let (tasks, seen) = mpsc::unbounded_channel();
    (Service::builder("moody").state(tasks).on_query("mood", moody), seen)
}

/// A service whose handler is polled in place, with the task of the service.
async fn warm(builder: ServiceBuilder<Tasks>, seen: &mut mpsc::UnboundedReceiver<Id>) -> (Stage, Id) {
    let stage = Stage::of(builder).await;
    let mut tasks = Vec::new();
    for _ in 0..=WARM_UP {
        stage.ask("mood", &ANSWER).await.unwrap();
        tasks.push(seen.recv().await.unwrap());
    }
    let task = tasks.pop().unwrap();
    assert!(!tasks.contains(&task), "at first each wave has a task");
    (stage, task)
}

async fn handled_in(stage: &Stage, mood: u32, seen: &mut mpsc::UnboundedReceiver<Id>) -> Id {
    assert_eq!(stage.ask("mood", &mood).await.unwrap().json::<u32>().unwrap(), mood);
    seen.recv().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_quick_handler_needs_no_task_and_a_handler_that_blocks_has_one() {
    let (builder, mut seen) = service();
    let (stage, here) = warm(builder, &mut seen).await;
    for _ in 0..20 {
        assert_eq!(handled_in(&stage, ANSWER, &mut seen).await, here);
    }
    let mut blocked_here = 0;
    while handled_in(&stage, BLOCK, &mut seen).await == here {
        blocked_here += 1;
        assert!(blocked_here <= 8, "a poll in eight is timed");
    }
    for _ in 0..20 {
        assert_ne!(handled_in(&stage, BLOCK, &mut seen).await, here);
    }
    for _ in 0..WARM_UP {
        assert_ne!(handled_in(&stage, ANSWER, &mut seen).await, here);
    }
    assert_eq!(handled_in(&stage, ANSWER, &mut seen).await, here, "it is quick again");
    stage.close().await;
}

#[tokio::test(start_paused = true)]
async fn failures_in_place_reach_the_asker_and_are_counted() {
    let (builder, mut seen) = service();
    let (stage, here) = warm(builder, &mut seen).await;
    let failure = stage.failure("mood", &FAIL).await;
    assert_eq!(failure, (FailureReason::HandlerFailed, "in a bad mood".to_owned()));
    let (reason, hint) = stage.failure("mood", &PANIC).await;
    assert_eq!(reason, FailureReason::HandlerFailed);
    assert!(hint.contains("in a very bad mood"), "{hint}");
    assert_eq!(stage.failure("mood", &"text").await.0, FailureReason::Rejected);
    for _ in 0..2 {
        assert_eq!(seen.recv().await.unwrap(), here);
    }
    assert_eq!(handled_in(&stage, ANSWER, &mut seen).await, here);
    let report = stage.close().await;
    assert_eq!((report.failed, report.panicked, report.rejected), (1, 1, 1));
    assert_eq!(report.succeeded, u64::from(WARM_UP) + 2);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_moved_out_of_the_way_and_timed_out() {
    let (builder, mut seen) = service();
    let (stage, here) = warm(builder.time_out(Duration::from_secs(1)), &mut seen).await;
    let begun = tokio::time::Instant::now();
    let hanging = stage.failure("mood", &HANG);
    let others = async {
        assert_eq!(seen.recv().await.unwrap(), here, "its first poll is in place");
        for _ in 0..3 {
            assert_eq!(handled_in(&stage, ANSWER, &mut seen).await, here);
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
    };
    let ((reason, _), ()) = tokio::join!(hanging, others);
    assert_eq!(reason, FailureReason::HandlerFailed);
    assert_eq!(begun.elapsed().as_secs(), 1);
    assert_eq!(stage.close().await.timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pending_handler_counts_against_the_concurrency() {
    let (builder, mut seen) = service();
    let builder = builder.concurrency(1).time_out(Duration::from_secs(1));
    let (stage, _) = warm(builder, &mut seen).await;
    let begun = tokio::time::Instant::now();
    let (_, answered) = tokio::join!(stage.failure("mood", &HANG), stage.ask("mood", &ANSWER));
    answered.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1, "it waited for the other");
    stage.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_failed_in_place_is_tried_again() {
    let (builder, mut seen) = service();
    let retry = Resend::default().budget(RetryBudget::unlimited());
    let (stage, here) = warm(builder.retry(retry), &mut seen).await;
    stage.ask("mood", &FAIL_ONCE).await.unwrap();
    assert_eq!([seen.recv().await, seen.recv().await], [Some(here); 2]);
    let report = stage.close().await;
    assert_eq!((report.retried, report.failed), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn failures_in_place_open_the_circuit() {
    let (builder, mut seen) = service();
    let breaker = Breaker::default().failures(2).open_for(Duration::from_secs(5));
    let (stage, _) = warm(builder.circuit_breaker(breaker), &mut seen).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..2 {
        stage.failure("mood", &FAIL).await;
    }
    stage.ask("mood", &ANSWER).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 5, "it waited while the circuit was open");
    stage.ask("mood", &ANSWER).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 5);
    stage.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_ended_when_the_grace_period_is_over() {
    let (builder, mut seen) = service();
    let (stage, _) = warm(builder.grace(Duration::from_secs(3)), &mut seen).await;
    let (failed, ()) = tokio::join!(stage.failure("mood", &HANG), async {
        seen.recv().await.unwrap();
        stage.shut_down();
    });
    assert!(failed.1.contains("ended in the middle"), "{failed:?}");
    assert_eq!(stage.ended().await.abandoned, 1);
}
