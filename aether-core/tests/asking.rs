//! Questions over NATS: answers that come late, and servers that come back.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

use std::time::Duration;

use aether_core::conformance::NatsServer;
use aether_core::{Aether, AskError, Emitter, Kind, Vibrator, Wave};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn question(text: &str) -> Wave {
    Wave::builder("time").kind(Kind::Query).text(text).build().unwrap()
}

async fn answer(ear: &mut Vibrator, times: usize) {
    let question = timeout(PATIENCE, ear.receive()).await.expect("a question").unwrap();
    for _ in 0..times {
        question.reply_bytes("answer").await.unwrap();
    }
}

async fn is_answered(asker: &Emitter, ear: &mut Vibrator) {
    let (answered, ()) = tokio::join!(asker.ask_within(question("?"), PATIENCE), answer(ear, 1));
    assert_eq!(answered.unwrap().text().unwrap(), "answer");
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_counted() {
    let server = NatsServer::start().await.unwrap();
    let (here, there) =
        (Aether::connect(&server.url()).await.unwrap(), Aether::connect(&server.url()).await.unwrap());
    let mut ears =
        [Vibrator::create("a", &there).await.unwrap(), Vibrator::create("b", &there).await.unwrap()];
    ears[0].resonate_on("time").await.unwrap();
    let asker = Vibrator::create("asker", &here).await.unwrap().emitter();
    let late = asker.ask_within(question("late"), Duration::from_millis(20)).await;
    assert!(matches!(late, Err(AskError::TimedOut { .. })), "{late:?}");
    answer(&mut ears[0], 1).await;
    // Answers come in the order in which the server got them.
    is_answered(&asker, &mut ears[0]).await;
    assert_eq!(here.status().stray_answers, 1);
    // Two who answer the same question: the later one is not needed.
    ears[1].resonate_on("time").await.unwrap();
    let [a, b] = &mut ears;
    let ask = asker.ask_within(question("both"), PATIENCE);
    let (answered, ..) = tokio::join!(ask, answer(a, 1), answer(b, 1));
    answered.unwrap();
    b.detune("time").unwrap();
    is_answered(&asker, a).await;
    assert_eq!(here.status().stray_answers, 2);
}

#[tokio::test]
async fn questions_are_answered_after_the_connection_was_made_anew() {
    let mut server = NatsServer::start().await.unwrap();
    let aether = Aether::connect(&server.url()).await.unwrap();
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("time").await.unwrap();
    let asker = Vibrator::create("asker", &aether).await.unwrap().emitter();
    is_answered(&asker, &mut ear).await;
    server.kill().await.unwrap();
    // Returns when the server has been missed.
    aether.flush().await.unwrap_err();
    let (asked, _) = tokio::join!(asker.ask_within(question("?"), PATIENCE), async {
        server.restart().await.unwrap();
        answer(&mut ear, 1).await;
    });
    asked.unwrap();
    is_answered(&asker, &mut ear).await;
    let nobody = Wave::builder("nobody").kind(Kind::Query).build().unwrap();
    let nobody = asker.ask_within(nobody, PATIENCE).await;
    assert!(matches!(nobody, Err(AskError::NoResonator { .. })), "{nobody:?}");
}
