//! Questions over NATS: late answers, and servers that restart.

use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{AskError, Emitter, Kind, Vibrator, Wave};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(120);

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
async fn a_late_answer_is_counted() {
    let server = NatsServer::start().await.unwrap();
    let (here, there) =
        (aether::connect(&server.url()).await.unwrap(), aether::connect(&server.url()).await.unwrap());
    let mut ears =
        [Vibrator::create("a", &there).await.unwrap(), Vibrator::create("b", &there).await.unwrap()];
    ears[0].resonate_on("time").await.unwrap();
    let asker = Vibrator::create("asker", &here).await.unwrap().emitter();
    let late = asker.ask_within(question("late"), Duration::from_millis(20)).await;
    assert!(matches!(late, Err(AskError::TimedOut { .. })), "{late:?}");
    answer(&mut ears[0], 1).await;
    // Answers arrive in the order in which the server received them.
    is_answered(&asker, &mut ears[0]).await;
    assert_eq!(here.status().stray_answers, 1);
    // Two vibrators answer the same question. The later answer is not needed.
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
async fn questions_are_answered_after_a_reconnect() {
    let mut server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("time").await.unwrap();
    let asker = Vibrator::create("asker", &aether).await.unwrap().emitter();
    is_answered(&asker, &mut ear).await;
    server.kill().await.unwrap();
    // Returns once the client has noticed that the server is gone.
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
