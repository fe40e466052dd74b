//! Questions over a bridge.

use aether_core::{AskError, Emitter, FailureReason};

use super::*;

/// Answers one question.
async fn answering(aether: &Aether, name: &str) -> tokio::task::JoinHandle<Wave> {
    let mut desk = Vibrator::create(name, aether).await.unwrap();
    desk.resonate_on("stock.>").await.unwrap();
    let name = name.to_owned();
    tokio::spawn(async move {
        let question = next(&mut desk).await;
        question.reply(&name).await.unwrap();
        question
    })
}

async fn ask(asker: &Emitter) -> Result<Wave, AskError> {
    asker.ask_within(text("stock.lamp", "how many?"), PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_crosses_and_the_answer_comes_back() {
    let (edge, hub) = (server().await, server().await);
    let (here, there) = (connected(&edge).await, connected(&hub).await);
    let bridge = of("stock.>").between(&here, &there).await.unwrap();
    let (edge, hub) = (connected(&edge).await, connected(&hub).await);
    let (at_edge, at_hub) = (edge.emitter("till").unwrap(), hub.emitter("office").unwrap());
    for (asker, desk, name) in [(&at_edge, &hub, "hub-desk"), (&at_hub, &edge, "edge-desk")] {
        let answering = answering(desk, name).await;
        let answer = ask(asker).await.unwrap();
        let question = answering.await.unwrap();
        assert_eq!((answer.json::<String>().unwrap().as_str(), answer.source().name()), (name, name));
        assert_eq!((question.source(), question.hops(), answer.hops()), (asker.source(), 1, 1));
        assert_eq!(answer.cause(), Some(&question.id()));
    }
    let account = bridge.close().await;
    assert_eq!((account.there.answered, account.back.unwrap().answered), (1, 1));
    assert!(account.adds_up(), "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_the_other_side_cannot_answer_fails_at_once_or_is_left_to_this_side() {
    let (edge, mut hub) = (server().await, server().await);
    let (here, there) = (connected(&edge).await, connected(&hub).await);
    let bridge = of("stock.>").one_way().max_questions(1).between(&here, &there).await.unwrap();
    let edge = connected(&edge).await;
    let asker = edge.emitter("till").unwrap();
    assert!(matches!(ask(&asker).await, Err(AskError::NoResonator { .. })));
    let mut gone = there.connection();
    hub.kill().await.unwrap();
    // That it was made may be reported late.
    let broken = async { while gone.changed().await.unwrap().connected {} };
    timeout(PATIENCE, broken).await.unwrap();
    let Err(AskError::Failed { source: failure, .. }) = ask(&asker).await else { panic!("it is away") };
    assert_eq!(failure.reason, FailureReason::Shed);
    assert!(failure.hint.contains("away"), "{failure}");
    hub.restart().await.unwrap();
    let back = async { while !gone.changed().await.unwrap().connected {} };
    timeout(PATIENCE, back).await.unwrap();

    // One that does not answer takes the only place.
    let mut silent = Vibrator::create("silent", &there).await.unwrap();
    silent.resonate_on("stock.>").await.unwrap();
    let waits = tokio::spawn({
        let asker = asker.clone();
        async move { ask(&asker).await }
    });
    let first = next(&mut silent).await;
    let Err(AskError::Failed { source: failure, .. }) = ask(&asker).await else { panic!("it is full") };
    assert!(failure.hint.contains("too many"), "{failure}");
    // Now somebody on this side listens as well, and the bridge leaves the answer to them.
    let mut roster = here.roster().await.unwrap();
    let here_too = answering(&edge, "edge-desk").await;
    while !roster.vibrators().iter().any(|present| present.vibrator.name() == "edge-desk") {
        timeout(PATIENCE, roster.changed()).await.unwrap();
    }
    assert_eq!(ask(&asker).await.unwrap().source().name(), "edge-desk");
    here_too.await.unwrap();
    first.reply(&"late").await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap().source().name(), "silent");
    let account = bridge.close().await;
    let way = account.there;
    assert_eq!((way.answered, way.unanswered, way.waiting), (1, 4, 0), "{way:?}");
    assert!(account.adds_up(), "{account:?}");
}
