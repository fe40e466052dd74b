//! Primitives for handlers: failure replies, emitters with a cause, and requeued waves.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use aether_core::{Aether, AskError, FailureReason, Vibrator, Wave, WaveId, wave::MAX_HINT_BYTES};

#[tokio::test]
async fn a_failed_answer_fails_the_question_with_its_reason() {
    let aether = Aether::local();
    let mut desk = Vibrator::create("desk", &aether).await.unwrap();
    desk.resonate_on("desk").await.unwrap();
    let asker = Vibrator::create("asker", &aether).await.unwrap();
    let answers = async {
        let long = "ü".repeat(MAX_HINT_BYTES);
        for reason in FailureReason::ALL {
            desk.receive().await.unwrap().reply_failure(reason, &long).await.unwrap();
        }
    };
    let asks = async {
        for reason in FailureReason::ALL {
            match asker.ask_wave("desk", &()).await {
                Err(error @ AskError::Failed { .. }) => {
                    assert_eq!(error.is_transient(), reason != FailureReason::Rejected);
                    let AskError::Failed { source, .. } = error else { unreachable!() };
                    assert_eq!((source.reason, source.hint.len()), (reason, MAX_HINT_BYTES));
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(answers, asks);
}

#[tokio::test]
async fn an_emitter_with_a_cause_names_it_unless_the_wave_names_another() {
    let aether = Aether::local();
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("a").await.unwrap();
    let mouth = Vibrator::create("mouth", &aether).await.unwrap();
    let first = mouth.emit_wave("a", &1).await.unwrap();
    let (first, other) = (mouth.id_of(&first), WaveId { source: mouth.source().clone(), sequence: 99 });
    let caused = mouth.emitter().caused_by(first.clone());
    assert_eq!((caused.cause(), mouth.cause()), (Some(&first), None));
    caused.emit_wave("a", &2).await.unwrap();
    caused.try_emit(Wave::builder("a").key("k").build().unwrap()).unwrap();
    caused.emit(Wave::builder("a").cause(other.clone()).build().unwrap()).await.unwrap();
    mouth.emit_wave("a", &3).await.unwrap();
    for cause in [None, Some(&first), Some(&first), Some(&other), None] {
        assert_eq!(ear.receive().await.unwrap().cause(), cause);
    }
}

#[tokio::test]
async fn a_requeued_wave_is_ordered_by_strength_and_can_still_be_answered() {
    let aether = Aether::local();
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("a").await.unwrap();
    let mouth = Vibrator::create("mouth", &aether).await.unwrap();
    let receives = async {
        let question = ear.receive().await.unwrap();
        mouth.emit_wave("a", &"fresh").await.unwrap();
        ear.put_back(question.resent().unwrap());
        drop(question);
        assert_eq!(ear.receive().await.unwrap().json::<String>().unwrap(), "fresh");
        let again = ear.receive().await.unwrap();
        assert_eq!(again.attempt(), 1);
        again.reply(&"at last").await.unwrap();
    };
    let (answer, ()) = tokio::join!(mouth.ask_wave("a", &"question"), receives);
    assert_eq!(answer.unwrap().json::<String>().unwrap(), "at last");
    let ledger = ear.ledger();
    assert_eq!((ledger.offered, ledger.delivered), (3, 3), "offered once more when it was put back");
}
