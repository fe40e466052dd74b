//! A NATS server that does not answer, or accepts less than before: every call ends, and unsent waves are counted.

use std::time::Duration;

use aether::nats::{NatsOptions, Wire};
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::medium::MediumStatus;
use aether_core::{Aether, AskError, EchoReason, FlushError, JoinError, Kind, Vibrator, Wave};
use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::settling::flushed;

/// A call slower than this counts as never ending.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until neither the network nor the client accepts any more; returns the results of the questions.
async fn fill(aether: &Aether) -> Vec<Result<Wave, AskError>> {
    let asker = Vibrator::create("asker", aether).await.unwrap().emitter();
    let mut asks = JoinSet::new();
    // 48 MB: more than the socket buffers and 2048 messages.
    for _ in 0..6000 {
        let asker = asker.clone();
        asks.spawn(async move {
            let question = Wave::builder("q").kind(Kind::Query).bytes(vec![0; 8000]).build().unwrap();
            asker.ask_within(question, Duration::from_millis(500)).await
        });
    }
    timeout(PATIENCE, asks.join_all()).await.expect("questions time out")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_ends_although_the_server_is_stuck_and_the_client_takes_nothing() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("ear.*").await.unwrap();
    ear.resonate_in_group("ear.*", "ears").await.unwrap();
    let other = Vibrator::create("other", &aether).await.unwrap();
    flushed(&aether).await;
    server.stop().await.unwrap();
    for asked in fill(&aether).await {
        // Some may have got through before all of the server's threads stopped.
        assert!(matches!(asked, Err(AskError::TimedOut { .. } | AskError::NoResonator { .. })), "{asked:?}");
    }
    ear.detune("ear.*").unwrap();
    let flushed = timeout(PATIENCE, aether.flush()).await.expect("a flush ends");
    assert!(matches!(flushed, Err(FlushError::Unanswered { .. })), "{flushed:?}");
    let joining = tokio::spawn(async move { other.resonate_on("late").await });
    let closed = timeout(PATIENCE, aether.close()).await.expect("closing ends");
    assert!(matches!(closed, Err(FlushError::Unanswered { .. })), "{closed:?}");
    let joined = timeout(PATIENCE, joining).await.expect("a join ends with the medium").unwrap();
    assert!(matches!(joined, Err(JoinError::Closed)), "{joined:?}");
    assert!(timeout(PATIENCE, ear.receive()).await.expect("receivers end").is_none());
    server.resume().unwrap();
    aether.close().await.unwrap();
}

#[tokio::test]
async fn receivers_end_although_a_close_with_a_stuck_server_is_cancelled() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("a").await.unwrap();
    let mut echoes = ear.echoes().await.unwrap();
    server.stop().await.unwrap();
    ear.emit_bytes("b", "x").await.unwrap();
    assert!(aether.close().now_or_never().is_none());
    assert!(timeout(PATIENCE, ear.receive()).await.expect("receivers end").is_none());
    assert!(timeout(PATIENCE, echoes.receive()).await.expect("receivers of echoes end").is_none());
    let closed = timeout(PATIENCE, aether.close()).await.expect("closing ends");
    assert!(matches!(closed, Err(FlushError::Unconfirmed { waves: 1, .. })), "{closed:?}");
}

#[tokio::test]
async fn waves_too_large_for_the_next_server_are_counted_and_reflected() {
    for wire in [Wire::Frames, Wire::CloudEvents] {
        let mut first = NatsServer::start().await.unwrap();
        let smaller = ServerOptions::default().setting("max_payload", 65536);
        let mut second = NatsServer::start_with(smaller).await.unwrap();
        second.kill().await.unwrap();
        let url = format!("{},{}", first.url(), second.url());
        let aether =
            aether::builder().url(url).options(NatsOptions::default().wire(wire)).connect().await.unwrap();
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        let mut echoes = shop.echoes().await.unwrap();
        first.kill().await.unwrap();
        // Returns once the client has noticed that the server is gone.
        aether.flush().await.unwrap_err();
        let command = |bytes| Wave::builder("big").kind(Kind::Command).bytes(vec![1; bytes]).build().unwrap();
        shop.emit(command(100)).await.unwrap();
        let big = shop.emit(command(500_000)).await.unwrap();
        shop.emit_bytes("small", "x").await.unwrap();
        second.restart().await.unwrap();
        let echo = loop {
            let echo = timeout(PATIENCE, echoes.receive()).await.expect("an echo").unwrap();
            // With frames, the other waves have no receiver either.
            if echo.of == shop.id_of(&big) {
                break echo;
            }
        };
        assert_eq!((echo.reason, &*echo.hint), (EchoReason::Shed, "the medium could not take it"));
        let unsent = timeout(PATIENCE, aether.flush()).await.expect("a flush ends");
        assert!(matches!(unsent, Err(FlushError::Unsendable { waves: 1 })), "{wire:?}: {unsent:?}");
        let MediumStatus { outbox, unconfirmed, .. } = aether.status();
        assert_eq!((outbox.delivered, outbox.shed_unsendable, unconfirmed), (2, 1, 0), "{wire:?}");
        assert!(outbox.adds_up());
        timeout(PATIENCE, flushed(&aether)).await.expect("a flush ends");
    }
}
