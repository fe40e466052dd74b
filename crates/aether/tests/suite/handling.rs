//! Primitives for handlers: failure replies, emitters with a cause, and requeued waves.

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
                // As if the responder were not there.
                Err(AskError::NoResonator { channel }) if reason == FailureReason::NoResonator => {
                    assert_eq!(channel.as_str(), "desk");
                }
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
async fn what_follows_from_a_wave_belongs_to_its_request() {
    let aether = Aether::local();
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("a").await.unwrap();
    let mouth = Vibrator::create("mouth", &aether).await.unwrap();
    let tenant = mouth.with_baggage("tenant", "acme").unwrap();
    assert!(mouth.baggage().is_empty() && tenant.with_baggage("a b", "").is_err());
    tenant.emit_wave("a", &1).await.unwrap();
    let first = ear.receive().await.unwrap();
    assert_eq!((first.root(), first.cause()), (first.id(), None));

    let handler = mouth.following(&first);
    assert_eq!((handler.root(), handler.cause()), (Some(&first.id()), Some(&first.id())));
    handler.emit_wave("a", &2).await.unwrap();
    let second = ear.receive().await.unwrap();
    let step = mouth.following(&second).with_baggage("step", "2").unwrap();
    step.emit_wave("a", &3).await.unwrap();
    let third = ear.receive().await.unwrap();
    assert_eq!((third.cause(), third.root()), (Some(&second.id()), first.id()));
    assert_eq!(third.baggage().to_string(), "step=2,tenant=acme");
    assert_eq!(second.baggage(), first.baggage(), "what a handler adds goes onwards only");

    // Another cause leaves the request; a root that was given is kept.
    step.caused_by(first.id()).emit_wave("a", &4).await.unwrap();
    let given = WaveId { source: mouth.source().clone(), sequence: 99 };
    step.emit(Wave::builder("a").root(given.clone()).build().unwrap()).await.unwrap();
    step.emit(Wave::builder("a").cause(given.clone()).build().unwrap()).await.unwrap();
    mouth.emit(third.clone()).await.unwrap();
    mouth.relay(&third).await.unwrap();
    mouth.caused_by(given.clone()).caused_by(first.id()).emit_wave("a", &4).await.unwrap();
    for (cause, root) in [
        (first.id(), first.id()),
        (second.id(), given.clone()),
        (given.clone(), first.id()),
        (second.id(), first.id()),
        (second.id(), first.id()),
        (first.id(), given.clone()),
    ] {
        let wave = ear.receive().await.unwrap();
        assert_eq!((wave.cause(), wave.root()), (Some(&cause), root));
    }
}

#[tokio::test]
async fn a_question_answers_and_their_failures_stay_in_the_request() {
    let aether = Aether::local();
    let mut desk = Vibrator::create("desk", &aether).await.unwrap();
    desk.resonate_on("desk").await.unwrap();
    let asker = Vibrator::create("asker", &aether).await.unwrap();
    let request = WaveId { source: asker.source().clone(), sequence: 77 };
    let asker = asker.with_baggage("tenant", "acme").unwrap().caused_by(request.clone());
    let question = asker.question(Wave::builder("desk").build().unwrap()).unwrap();
    let (id, patience) = (question.id(), std::time::Duration::from_secs(60));
    let answers = async {
        let question = desk.receive().await.unwrap();
        question.reply(&1).await.unwrap();
        question
    };
    let (answer, heard) = tokio::join!(question.ask_within(patience), answers);
    let answer = answer.unwrap();
    assert_eq!((heard.id(), answer.cause()), (id.clone(), Some(&id)));
    assert_eq!((answer.root(), answer.baggage().value("tenant")), (request.clone(), Some("acme")));
    // In an echo and in a dead letter, too.
    let mut echoes = asker.echoes().await.unwrap();
    let command = || Wave::builder("nobody").kind(aether_core::Kind::Command).build().unwrap();
    asker.emit(command()).await.unwrap();
    let echo = echoes.receive().await.unwrap();
    assert_eq!((&echo.root, echo.baggage.value("tenant")), (&request, Some("acme")));
    let after = asker.following(&echo);
    assert_eq!(
        (after.cause(), after.root(), after.baggage()),
        (Some(&echo.of), Some(&request), &echo.baggage)
    );
    drop(echoes);
    asker.emit(command()).await.unwrap();
    let letter = aether.dead_letters().list().remove(0);
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("nobody").await.unwrap();
    let operator = aether.emitter("operator").unwrap();
    aether.dead_letters().replay(letter.number, &operator).await.unwrap();
    let again = ear.receive().await.unwrap();
    assert_eq!((again.cause(), again.root()), (Some(&letter.wave.id()), request));
    assert_eq!(again.baggage().value("tenant"), Some("acme"));
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
