//! Waves that handlers emit, ask and answer name their cause, on both media.

use std::collections::HashMap;

use aether::nats::{NatsOptions, Wire};
use aether_conformance::NatsServer;
use aether_core::{Aether, AskError, Emitter, FailureReason, Kind, Vibrator, Wave, WaveId};
use aether_service::{Asker, AskerOptions, Json, Service};

use crate::service::stage::{LONG, Stage};

async fn front(Json(order): Json<u32>, emitter: Emitter, asker: Asker) -> Result<Json<u32>, BoxError> {
    emitter.emit_wave("told.front", &order).await?;
    // The cause is kept in a spawned task.
    tokio::spawn(async move { emitter.emit_wave("told.task", &order).await }).await??;
    let answer = asker.ask(Wave::builder("back").json(order).build()?).await?;
    Ok(Json(answer.json::<u32>()? + 1))
}

async fn back(Json(order): Json<u32>, emitter: Emitter) -> Result<Json<u32>, BoxError> {
    let chosen = WaveId { source: emitter.source().clone(), sequence: 77 };
    emitter.emit(Wave::builder("told.back").json(order).build()?).await?;
    emitter.emit(Wave::builder("told.chosen").cause(chosen).build()?).await?;
    Ok(Json(order * 2))
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Two services in a row, an observer and an asker, each on its own connection.
async fn chain(connect: impl AsyncFn() -> Aether) {
    let watched = connect().await;
    let mut observer = Vibrator::builder("observer").observe().create(&watched).await.unwrap();
    observer.resonate_on("*").await.unwrap();
    let back =
        Stage::on(connect().await, Service::builder("back").group("back").on_query("back", back)).await;
    // A question that is repeated has another cause.
    let asking = AskerOptions::default().patience(LONG).deadline(LONG);
    let front =
        Stage::on(connect().await, Service::builder("front").asking(asking).on_query("front", front)).await;
    let user = Vibrator::create("asker", &connect().await).await.unwrap();
    let question = Wave::builder("front").json(20).build().unwrap();
    let answer = user.ask_within(question, LONG).await.unwrap();
    assert_eq!(answer.json::<u32>().unwrap(), 41);

    // Two questions, two answers, four events.
    let mut heard: HashMap<String, Wave> = HashMap::new();
    while heard.len() < 8 {
        let wave = observer.receive().await.unwrap();
        heard.insert(format!("{} {}", wave.kind(), wave.channel()), wave);
    }
    let id = |name: &str| heard[name].id();
    let cause = |name: &str| heard[name].cause().cloned();
    assert_eq!(cause("event front"), None);
    for caused in ["event told.front", "event told.task", "event back", "response front"] {
        assert_eq!(cause(caused), Some(id("event front")), "{caused}");
    }
    for caused in ["event told.back", "response back"] {
        assert_eq!(cause(caused), Some(id("event back")), "{caused}");
    }
    assert_eq!(cause("event told.chosen").unwrap().sequence, 77, "a cause that was given is kept");
    assert_eq!(answer.cause(), Some(&id("event front")));
    assert_eq!((front.close().await.succeeded, back.close().await.succeeded), (1, 1));
}

#[tokio::test]
async fn causes_form_a_chain_in_process() {
    let aether = Aether::local();
    chain(async || aether.clone()).await;
}

#[tokio::test]
async fn causes_form_a_chain_over_nats() {
    let server = NatsServer::start().await.unwrap();
    chain(async || aether::connect(&server.url()).await.unwrap()).await;
}

#[tokio::test]
async fn failures_reach_the_asker_over_nats_in_every_format() {
    let server = NatsServer::start().await.unwrap();
    for wire in [Wire::Frames, Wire::CloudEvents] {
        let connect = async || {
            aether::builder()
                .url(server.url())
                .options(NatsOptions::default().prefix(format!("p-{wire:?}")).wire(wire))
                .connect()
                .await
                .unwrap()
        };
        let builder = Service::builder("service")
            .on_query("double", async |Json(number): Json<u32>| Json(number * 2))
            .on_query("panic", async || -> Json<u32> { panic!("over the wire") });
        let stage = Stage::on(connect().await, builder).await;
        let user = Vibrator::create("asker", &connect().await).await.unwrap();
        let question = Wave::builder("double").kind(Kind::Query).json(4).build().unwrap();
        assert_eq!(user.ask_within(question, LONG).await.unwrap().json::<u32>().unwrap(), 8);
        for (channel, payload, reason, hint) in [
            ("double", "four", FailureReason::Rejected, "the payload cannot be read"),
            ("panic", "", FailureReason::HandlerFailed, "panicked: over the wire"),
        ] {
            // A panic that prints a backtrace may take longer than the patience of `ask`.
            let question = Wave::builder(channel).json(payload).build().unwrap();
            match user.ask_within(question, LONG).await {
                Err(AskError::Failed { source, channel: at }) => {
                    assert_eq!((source.reason, at.as_str()), (reason, channel));
                    assert!(source.hint.starts_with(hint), "{}", source.hint);
                }
                other => panic!("{wire:?} {channel}: {other:?}"),
            }
        }
        let report = stage.close().await;
        assert_eq!((report.succeeded, report.rejected, report.panicked), (1, 1, 1));
    }
}

/// A requester without Aether sees the failure in the headers.
#[tokio::test]
async fn a_foreign_requester_over_nats_gets_the_failure_as_a_header() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let refuses =
        async || -> Result<(), aether_service::Rejection> { Err(aether_service::Rejection::new("closed")) };
    let stage = Stage::on(aether, Service::builder("service").on_query("shop", refuses)).await;
    let options = async_nats::ConnectOptions::new().connection_timeout(LONG).request_timeout(Some(LONG));
    let client = options.connect(server.url()).await.unwrap();
    let answer = client.request("aether.shop", "{}".into()).await.unwrap();
    assert_eq!(answer.headers.unwrap().get(aether_core::wave::FAILURE).unwrap().as_str(), "rejected");
    assert_eq!(answer.payload, "closed");
    assert_eq!(stage.close().await.rejected, 1);
}
