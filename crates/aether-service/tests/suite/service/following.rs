//! A request is followed through services, questions, retries and failures, on both media.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aether::nats::{NatsOptions, Wire};
use aether_conformance::NatsServer;
use aether_core::{Aether, Emitter, Kind, Vibrator, Wave};
use aether_service::{Asker, AskerOptions, Json, Resend, Service, State};

use crate::service::stage::{LONG, Stage};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn quick() -> Resend {
    let ms = Duration::from_millis(1);
    Resend::default().pauses(ms, ms).unwrap()
}

async fn front(emitter: Emitter, asker: Asker) -> Result<Json<u32>, BoxError> {
    let answer = asker.ask(Wave::builder("middle").build()?).await?;
    // Waves that follow from the answer belong to the same request, with one entry more.
    let after = asker.following(&answer).with_baggage("step", "after")?;
    after.emitter().emit_wave("told.after", &()).await?;
    emitter.emit_wave("told.front", &()).await?;
    Ok(Json(answer.json()?))
}

/// Fails at first, is tried again, and then emits a command that comes back.
async fn middle(State(tries): State<Arc<AtomicU32>>, emitter: Emitter) -> Result<Json<u32>, BoxError> {
    let attempt = tries.fetch_add(1, Ordering::Relaxed);
    emitter.emit_wave("told.middle", &attempt).await?;
    if attempt == 0 {
        return Err("not yet".into());
    }
    emitter.emit(Wave::builder("nobody").kind(Kind::Command).build()?).await?;
    Ok(Json(attempt))
}

async fn request(connect: impl AsyncFn() -> Aether) {
    let watched = connect().await;
    let mut observer = Vibrator::builder("observer").observe().create(&watched).await.unwrap();
    observer.resonate_on(">").await.unwrap();
    let backend = connect().await;
    let builder = Service::builder("middle").state(Arc::default()).on_query("middle", middle).retry(quick());
    let service = builder.build(&backend).await.unwrap();
    let mut echoes = service.emitter().echoes().await.unwrap();
    let middle = Stage::run(&backend, service).await;
    let asking = AskerOptions::default().patience(LONG).deadline(LONG);
    let front =
        Stage::on(connect().await, Service::builder("front").asking(asking).on_query("front", front)).await;
    let user =
        Vibrator::create("user", &connect().await).await.unwrap().with_baggage("tenant", "acme").unwrap();
    let answer = user.ask_within(Wave::builder("front").build().unwrap(), LONG).await.unwrap();
    assert_eq!(answer.json::<u32>().unwrap(), 1);

    // Two questions and two answers, four events, and a command.
    let mut heard = BTreeMap::new();
    while heard.len() < 9 {
        let wave = observer.receive().await.unwrap();
        let attempt = if wave.channel().as_str() == "told.middle" { wave.text().unwrap() } else { "" };
        heard.insert(format!("{} {}{attempt}", wave.kind(), wave.channel()), wave);
    }
    let root = heard["event front"].id();
    for (name, wave) in &heard {
        let baggage = if name == "event told.after" { "step=after,tenant=acme" } else { "tenant=acme" };
        assert_eq!((wave.root(), wave.baggage().to_string().as_str()), (root.clone(), baggage), "{name}");
    }
    let cause = |name: &str| heard[name].cause().cloned();
    assert_eq!(cause("event told.middle1"), Some(heard["event middle"].id()), "of the second attempt");
    assert_eq!(cause("event told.after"), Some(heard["response middle"].id()));
    assert_eq!((answer.root(), answer.baggage().value("tenant")), (root.clone(), Some("acme")));
    let echo = echoes.receive().await.unwrap();
    assert_eq!((echo.of, echo.root), (heard["command nobody"].id(), root));
    assert_eq!(echo.baggage.value("tenant"), Some("acme"));
    let report = middle.close().await;
    assert_eq!((front.close().await.succeeded, report.retried, report.succeeded), (1, 1, 1));
}

#[tokio::test]
async fn a_request_is_followed_in_process() {
    let aether = Aether::local();
    request(async || aether.clone()).await;
}

#[tokio::test]
async fn a_request_is_followed_over_nats_in_frames() {
    let server = NatsServer::start().await.unwrap();
    request(async || aether::connect(&server.url()).await.unwrap()).await;
}

/// An asker without a cause: its first question begins the request, and the repetitions belong to it.
#[tokio::test]
async fn all_attempts_of_a_question_have_one_root_in_every_format() {
    let server = NatsServer::start().await.unwrap();
    for wire in [Wire::Frames, Wire::CloudEvents] {
        let connect = async || {
            let options = NatsOptions::default().prefix(format!("p-{wire:?}")).wire(wire);
            aether::builder().url(server.url()).options(options).connect().await.unwrap()
        };
        let tries = Arc::new(AtomicU32::new(0));
        let unsteady = async |State(tries): State<Arc<AtomicU32>>| match tries.fetch_add(1, Ordering::Relaxed)
        {
            0..=2 => Err("not yet"),
            tries => Ok(Json(tries)),
        };
        let stage =
            Stage::on(connect().await, Service::builder("s").state(tries).on_query("a", unsteady)).await;
        let aether = connect().await;
        let mut observer = Vibrator::builder("observer").observe().create(&aether).await.unwrap();
        observer.resonate_on("a").await.unwrap();
        let emitter = aether.emitter("asker").unwrap().with_baggage("tenant", "Zürich, 2").unwrap();
        let options = AskerOptions::default().patience(LONG).deadline(LONG).resend(quick());
        let asker = Asker::new(emitter, options);
        let question = || Wave::builder("a").kind(Kind::Query).build().unwrap();
        assert_eq!(asker.ask(question()).await.unwrap().json::<u32>().unwrap(), 3);
        let mut questions = Vec::new();
        while questions.len() < 4 {
            let wave = observer.receive().await.unwrap();
            assert_eq!(wave.baggage().value("tenant"), Some("Zürich, 2"), "{wire:?}");
            if wave.kind() == Kind::Query {
                questions.push(wave);
            }
        }
        let roots: Vec<_> = questions.iter().map(Wave::root).collect();
        assert_eq!(roots, vec![questions[0].id(); 4], "{wire:?}");
        // The next question begins a request of its own; one with a root keeps it.
        assert_eq!(asker.ask(question()).await.unwrap().cause().map(|id| id.sequence), Some(5));
        let given = Wave::builder("a").kind(Kind::Query).root(questions[1].id()).build().unwrap();
        assert_eq!(asker.ask(given).await.unwrap().root(), questions[1].id());
        assert_eq!(stage.close().await.failed, 3);
    }
}
