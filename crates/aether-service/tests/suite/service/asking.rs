//! Asking with retries.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, AskError, FailureReason, Vibrator, Wave};
use aether_service::{Asker, AskerError, AskerOptions, Json, Rejection, Resend, RetryBudget, Service};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::service::stage::{LONG, Stage};

/// Amplitudes of the received questions.
type Heard = Arc<Mutex<Vec<f32>>>;

/// A responder that answers the question number `answers` and drops the others.
async fn reluctant(aether: &Aether, answers: usize) -> Heard {
    let mut vibrator = Vibrator::create("reluctant", aether).await.unwrap();
    vibrator.resonate_on("question").await.unwrap();
    let heard = Heard::default();
    let theirs = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(wave) = vibrator.receive().await {
            theirs.lock().push(wave.amplitude().as_f32());
            let number = theirs.lock().len();
            if number == answers {
                wave.reply(&number).await.unwrap();
            }
        }
    });
    heard
}

async fn asker(aether: &Aether, resend: Resend) -> Asker {
    let vibrator = Vibrator::create("asker", aether).await.unwrap();
    Asker::new(vibrator.emitter(), AskerOptions::default().deadline(LONG).resend(resend))
}

fn question() -> Wave {
    Wave::builder("question").amplitude(0.8).json(()).build().unwrap()
}

fn no_budget() -> RetryBudget {
    RetryBudget::new(0, 0)
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_half_as_strong_until_there_is_an_answer() {
    let aether = Aether::local();
    let heard = reluctant(&aether, 4).await;
    let asker = asker(&aether, Resend::default()).await;
    assert_eq!(asker.ask(question()).await.unwrap().json::<u32>().unwrap(), 4);
    let first = question().amplitude().as_f32();
    let expected: Vec<f32> = [1.0, 2.0, 4.0, 8.0].iter().map(|times| first / times).collect();
    for (heard, expected) in heard.lock().iter().zip(&expected) {
        assert!((heard / expected - 1.0).abs() < 1e-6, "{heard} {expected}");
    }
    assert_eq!(heard.lock().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn without_the_energy_bound_each_attempt_is_as_strong() {
    let aether = Aether::local();
    let heard = reluctant(&aether, 3).await;
    asker(&aether, Resend::default().undiminished()).await.ask(question()).await.unwrap();
    let first = question().amplitude().as_f32();
    assert_eq!(*heard.lock(), [first; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_question_without_a_receiver_is_repeated_without_loss_and_without_a_budget() {
    let aether = Aether::local();
    let asker = asker(&aether, Resend::default().budget(no_budget())).await;
    let asking = tokio::spawn(async move { asker.ask(question()).await });
    // Time is paused and advances by timers: many attempts later.
    tokio::time::sleep(LONG / 4).await;
    let heard = reluctant(&aether, 1).await;
    asking.await.unwrap().unwrap();
    assert_eq!(*heard.lock(), [question().amplitude().as_f32()]);
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_what_is_asked_again_and_the_rest_waits_for_the_deadline() {
    let aether = Aether::local();
    let heard = reluctant(&aether, usize::MAX).await;
    let budget = RetryBudget::new(200, 0);
    let asker = asker(&aether, Resend::default().most(32).budget(budget)).await;
    let deadline = Instant::now() + Duration::from_secs(9);
    let asked = (0..5).map(|_| asker.ask_until(question(), deadline));
    for ended in futures_util::future::join_all(asked).await {
        assert!(matches!(ended, Err(AskerError::Deadline { .. })), "{ended:?}");
    }
    assert_eq!(Instant::now(), deadline);
    assert_eq!(heard.lock().len(), 5 + 10);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_the_last_failure_is_returned() {
    let aether = Aether::local();
    let heard = reluctant(&aether, usize::MAX).await;
    let asker = asker(&aether, Resend::default().most(3).budget(RetryBudget::unlimited())).await;
    match asker.ask(question()).await {
        Err(AskerError::Ask { channel, source: AskError::Unanswered { .. } }) => {
            assert_eq!(channel.as_str(), "question");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(heard.lock().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn rejected_questions_are_not_repeated_and_failed_ones_are() {
    let aether = Aether::local();
    let builder = Service::builder("service")
        .on_query("question", async |wave: Wave| match wave.amplitude().as_f32() {
            amplitude if amplitude > 0.5 => Err("once"),
            _ => Ok("twice"),
        })
        .on_query("refused", async || -> Result<Json<()>, Rejection> { Err(Rejection::new("no")) });
    let stage = Stage::on(aether.clone(), builder).await;
    let asker = asker(&aether, Resend::default()).await;
    assert_eq!(asker.ask(question()).await.unwrap().text().unwrap(), "twice");
    match asker.ask(Wave::builder("refused").build().unwrap()).await {
        Err(AskerError::Ask { source: AskError::Failed { source, .. }, .. }) => {
            assert_eq!(source.reason, FailureReason::Rejected);
        }
        other => panic!("{other:?}"),
    }
    let report = stage.close().await;
    assert_eq!((report.failed, report.succeeded, report.rejected), (1, 1, 1));
}
