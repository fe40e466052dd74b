//! Observers see questions and answers but do not count as responders, in process and over a real NATS server. Also:
//! how a group shares a burst of waves.

use std::time::Duration;

use aether::nats::{NatsOptions, Wire};
use aether_conformance::NatsServer;
use aether_core::{Aether, AskError, JoinError, Kind, Vibrator, Wave};
use futures::StreamExt;

use crate::settling::flushed;

/// Far longer than anything here takes; reaching it means that something never arrived.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two ends of one medium, and the server if there is one.
struct Stage {
    here: Aether,
    there: Aether,
    _server: Option<NatsServer>,
}

/// The local medium, NATS with two connections, and NATS with CloudEvents.
async fn stages() -> Vec<Stage> {
    let here = Aether::local();
    let mut stages = vec![Stage { there: here.clone(), here, _server: None }];
    for wire in [Wire::Frames, Wire::CloudEvents] {
        let server = NatsServer::start().await.unwrap();
        let connect =
            || aether::builder().url(server.url()).options(NatsOptions::default().wire(wire)).connect();
        let (here, there) = (connect().await.unwrap(), connect().await.unwrap());
        stages.push(Stage { here, there, _server: Some(server) });
    }
    stages
}

async fn observer(aether: &Aether, patterns: &[&str]) -> Vibrator {
    let observer = Vibrator::builder("observer").observe().create(aether).await.unwrap();
    for pattern in patterns {
        observer.resonate_on(*pattern).await.unwrap();
    }
    observer
}

async fn next(vibrator: &mut Vibrator) -> Wave {
    tokio::time::timeout(PATIENCE, vibrator.receive())
        .await
        .expect("a wave in time")
        .expect("the medium is open")
}

/// The waves an observer has not received yet, once its medium is closed: everything sent before has arrived then.
async fn rest(aether: &Aether, observer: &mut Vibrator) -> Vec<(Kind, String)> {
    aether.close().await.unwrap();
    let mut heard = Vec::new();
    while let Some(wave) = observer.receive().await {
        heard.push((wave.kind(), wave.text().unwrap().to_owned()));
    }
    heard
}

/// Answers this many questions with their text and an exclamation mark.
fn answering(mut answerer: Vibrator, questions: usize) -> tokio::task::JoinHandle<Vibrator> {
    tokio::spawn(async move {
        for _ in 0..questions {
            let question = next(&mut answerer).await;
            let answer = format!("{}!", question.text().unwrap());
            question.reply_bytes(answer).await.unwrap();
        }
        answerer
    })
}

fn question(text: &str) -> Wave {
    Wave::builder("stock.count").kind(Kind::Query).text(text).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_does_not_count_as_a_responder_and_sees_the_question() {
    for stage in stages().await {
        let mut observer = observer(&stage.there, &[">"]).await;
        let asker = Vibrator::create("asker", &stage.here).await.unwrap();
        let asked = tokio::time::Instant::now();
        let answer = asker.ask_within(question("how many?"), PATIENCE).await;
        assert!(matches!(answer, Err(AskError::NoResonator { .. })), "{answer:?}");
        assert!(asked.elapsed() < PATIENCE / 2, "at once");
        let seen = next(&mut observer).await;
        assert_eq!((seen.kind(), seen.text().unwrap()), (Kind::Query, "how many?"));
        assert_eq!(seen.source(), asker.source());
        assert!(!seen.expects_reply());
        assert!(matches!(seen.reply_bytes("7").await, Err(aether_core::wave::ReplyError::NotAsked)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_see_each_question_and_each_answer_once() {
    for stage in stages().await {
        // With several patterns, beside the responder and beside the asker; and one that receives its own waves.
        let mut far = observer(&stage.there, &["stock.*", ">", "stock.count"]).await;
        let mut near = observer(&stage.here, &["stock.>"]).await;
        let answerer = Vibrator::create("stock", &stage.there).await.unwrap();
        answerer.resonate_on("stock.*").await.unwrap();
        answerer.resonate_on("stock.count").await.unwrap();
        let asker = Vibrator::create("asker", &stage.here).await.unwrap();
        let answering = answering(answerer, 3);
        for text in ["a", "b", "c"] {
            let answer = asker.ask_within(question(text), PATIENCE).await.unwrap();
            assert_eq!(answer.text().unwrap(), format!("{text}!"));
        }
        asker.emit(Wave::builder("stock.count").text("event").build().unwrap()).await.unwrap();
        flushed(&stage.here).await;
        let answerer = answering.await.unwrap();
        assert_eq!(answerer.ledger().offered - answerer.ledger().queued, 3);
        for observer in [&mut far, &mut near] {
            let mut heard = Vec::new();
            while heard.len() < 7 {
                let wave = next(observer).await;
                assert!(!wave.expects_reply());
                heard.push((wave.kind(), wave.text().unwrap().to_owned()));
            }
            // On NATS the copies and the event take separate paths, so their order is not guaranteed.
            assert_eq!(heard.extract_if(.., |(kind, _)| *kind == Kind::Event).count(), 1);
            let dialogue = ["a", "a!", "b", "b!", "c", "c!"];
            assert_eq!(heard.iter().map(|(_, text)| &**text).collect::<Vec<_>>(), dialogue);
            assert!(heard.iter().step_by(2).all(|(kind, _)| *kind == Kind::Query), "{heard:?}");
            assert!(heard.iter().skip(1).step_by(2).all(|(kind, _)| *kind == Kind::Response), "{heard:?}");
        }
        assert_eq!(rest(&stage.here, &mut near).await, [], "nothing twice");
        assert_eq!(rest(&stage.there, &mut far).await, [], "nothing twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_observed_on_the_questions_channel() {
    for stage in stages().await {
        let mut observer = observer(&stage.there, &["stock.count"]).await;
        let mut stock = Vibrator::create("stock", &stage.there).await.unwrap();
        stock.resonate_on("stock.count").await.unwrap();
        let asker = Vibrator::create("asker", &stage.here).await.unwrap();
        let emitter = asker.emitter();
        let asked = tokio::spawn(async move { emitter.ask_within(question("a"), PATIENCE).await });
        next(&mut stock).await.reply_wave(Wave::builder("elsewhere").text("7")).await.unwrap();
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(answer.channel().as_str(), "stock.count");
        assert_eq!(next(&mut observer).await.kind(), Kind::Query);
        let seen = next(&mut observer).await;
        assert_eq!((seen.id(), seen.cause()), (answer.id(), answer.cause()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_question_is_observed_even_if_it_is_cancelled() {
    for stage in stages().await {
        let mut observer = observer(&stage.there, &["stock.count"]).await;
        let mut stock = Vibrator::create("stock", &stage.there).await.unwrap();
        stock.resonate_on("stock.count").await.unwrap();
        let asker = Vibrator::create("asker", &stage.here).await.unwrap().emitter();
        let waiting = tokio::spawn({
            let asker = asker.clone();
            async move { asker.ask_within(question("a"), PATIENCE).await }
        });
        let held = next(&mut stock).await;
        assert_eq!(next(&mut observer).await.text().unwrap(), "a");
        waiting.abort();
        drop(held);
        // Polled once and cancelled before an answer can have arrived.
        {
            let mut asking = std::pin::pin!(asker.ask_within(question("b"), PATIENCE));
            assert!(futures::poll!(&mut asking).is_pending());
        }
        assert_eq!(next(&mut observer).await.text().unwrap(), "b");
    }
}

#[tokio::test]
async fn in_process_the_copy_of_an_observer_does_not_keep_an_asker_waiting() {
    let aether = Aether::local();
    let mut observer = observer(&aether, &[">"]).await;
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("stock.count").await.unwrap();
    let asker = Vibrator::create("asker", &aether).await.unwrap();
    let (answer, seen) = tokio::join!(asker.ask_within(question("a"), PATIENCE), async {
        let seen = next(&mut observer).await;
        drop(next(&mut stock).await);
        seen
    });
    assert!(matches!(answer, Err(AskError::Unanswered { .. })), "{answer:?}");
    assert_eq!(seen.text().unwrap(), "a");
}

#[tokio::test]
async fn a_receipt_and_its_emitter_name_the_wave() {
    let aether = Aether::local();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("a").await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let receipt = shop.emit_wave("a", &1).await.unwrap();
    assert_eq!(shop.id_of(&receipt), next(&mut stock).await.id());
}

#[tokio::test]
async fn a_full_observer_blocks_no_emitter_and_counts_its_losses() {
    let aether = Aether::local();
    let inbox = aether_core::InboxOptions::interactive().max_waves(1);
    let observer = Vibrator::builder("observer").observe().inbox(inbox).create(&aether).await.unwrap();
    observer.resonate_on(">").await.unwrap();
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("stock.count").await.unwrap();
    let answering = answering(stock, 3);
    let asker = Vibrator::create("asker", &aether).await.unwrap();
    for _ in 0..3 {
        asker.ask_within(question("a"), PATIENCE).await.unwrap();
    }
    answering.await.unwrap();
    let ledger = observer.ledger();
    assert_eq!((ledger.offered, ledger.queued, ledger.shed_full), (6, 1, 5));
    assert!(ledger.adds_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_hear_events_and_do_not_join_groups() {
    for stage in stages().await {
        let mut observer = observer(&stage.there, &["a.*"]).await;
        let refused = observer.resonate_in_group("a.*", "workers").await;
        assert!(matches!(refused, Err(JoinError::Observer { .. })), "{refused:?}");
        let member = Vibrator::create("worker", &stage.there).await.unwrap();
        member.resonate_in_group("a.*", "workers").await.unwrap();
        let shop = Vibrator::create("shop", &stage.here).await.unwrap();
        shop.emit_wave("a.b", &1).await.unwrap();
        // Its own waves are excluded, as for any other vibrator.
        observer.emit_wave("a.b", &2).await.unwrap();
        shop.emit_wave("a.b", &3).await.unwrap();
        assert_eq!(next(&mut observer).await.json::<u8>().unwrap(), 1);
        assert_eq!(next(&mut observer).await.json::<u8>().unwrap(), 3);
        observer.detune("a.*").unwrap();
        flushed(&stage.there).await;
        let before = observer.ledger().offered;
        shop.emit_wave("a.b", &4).await.unwrap();
        let asked =
            shop.ask_within(Wave::builder("a.b").text("?").build().unwrap(), Duration::from_millis(50));
        assert!(matches!(asked.await, Err(AskError::TimedOut { .. })), "the member is silent");
        flushed(&stage.here).await;
        flushed(&stage.there).await;
        assert_eq!(observer.ledger().offered, before);
        drop(member);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_requesters_and_responders_are_observed_as_well() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut observer = observer(&aether, &["stock.count"]).await;
    let foreign = async_nats::connect(server.url()).await.unwrap();

    // A foreign requester, on the subject of all waves.
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("stock.count").await.unwrap();
    let answering = answering(stock, 1);
    let answer = foreign.request("aether.stock.count", "a".into()).await.unwrap();
    assert_eq!(answer.payload, "a!");
    for (kind, text) in [(Kind::Query, "a"), (Kind::Response, "a!")] {
        let seen = next(&mut observer).await;
        assert_eq!((seen.kind(), seen.text().unwrap()), (kind, text));
        assert!(!seen.expects_reply());
    }
    drop(answering.await.unwrap());
    flushed(&aether).await;

    // A foreign responder, on the subject of questions.
    let mut questions = foreign.subscribe("aether-ask.stock.count").await.unwrap();
    let asker = Vibrator::create("asker", &aether).await.unwrap();
    // In force once the server has processed a later request.
    let _ = foreign.request("nobody", "".into()).await;
    let emitter = asker.emitter();
    let asked = tokio::spawn(async move { emitter.ask_within(question("b"), PATIENCE).await });
    let asked_for = tokio::time::timeout(PATIENCE, questions.next()).await.unwrap().unwrap();
    foreign.publish(asked_for.reply.unwrap(), "b!".into()).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().payload(), "b!");
    for kind in [Kind::Query, Kind::Response] {
        assert_eq!(next(&mut observer).await.kind(), kind);
    }
    assert_eq!(rest(&aether, &mut observer).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_commands_is_shared_by_a_group_and_events_are_batched() {
    const WAVES: usize = 400;
    let server = NatsServer::start().await.unwrap();
    let sending = aether::connect(&server.url()).await.unwrap();
    let mut members = Vec::new();
    for _ in 0..2 {
        let aether = aether::connect(&server.url()).await.unwrap();
        let member = Vibrator::create("worker", &aether).await.unwrap();
        member.resonate_in_group("jobs.*", "workers").await.unwrap();
        members.push((aether, member));
    }
    let foreign = async_nats::connect(server.url()).await.unwrap();
    let mut messages = foreign.subscribe("aether.>").await.unwrap();
    let _ = foreign.request("nobody", "".into()).await;

    let shop = Vibrator::create("shop", &sending).await.unwrap();
    for (kind, channel) in [(Kind::Command, "jobs.pack"), (Kind::Event, "packed")] {
        for n in 0..WAVES {
            let wave = Wave::builder(channel).kind(kind).json(n).build().unwrap();
            shop.try_emit(wave).unwrap();
        }
    }
    flushed(&sending).await;
    let mut counts = [0, 0];
    let mut events = 0;
    while events < WAVES || counts[0] < WAVES {
        let message = tokio::time::timeout(PATIENCE, messages.next()).await.unwrap().unwrap();
        let frame = aether_link::wire::decode(
            &message.payload,
            message
                .subject
                .strip_prefix("aether.")
                .map(|name| aether_core::Channel::new(name).unwrap())
                .as_ref(),
            std::time::Instant::now(),
            |_| Duration::ZERO,
        )
        .unwrap();
        if frame.channel.as_str() == "packed" {
            events += frame.waves.len();
            counts[1] += 1;
        } else {
            assert_eq!(frame.waves.len(), 1, "commands are not batched");
            // In order.
            assert_eq!(frame.waves[0].json::<usize>().unwrap(), counts[0]);
            counts[0] += 1;
        }
    }
    assert!(counts[1] < WAVES / 2, "{} messages for {WAVES} events", counts[1]);

    let mut offered = Vec::new();
    for (aether, member) in &members {
        // Everything that the server sent before is in the inbox once the medium is closed.
        aether.close().await.unwrap();
        offered.push(member.ledger().offered as usize);
    }
    assert_eq!(offered.iter().sum::<usize>(), WAVES);
    assert!(offered.iter().all(|waves| *waves > 100), "{offered:?}");
}
