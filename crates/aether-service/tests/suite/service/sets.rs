//! Sets of handlers: each has limits, layers and an inbox of its own.

use std::sync::Arc;
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, AskError, Emitter, FailureReason, InboxOptions, Kind, Vibrator, Wave, WhenFull};
use aether_service::{
    Breaker, CancellationToken, Handlers, Limits, Resend, RetryBudget, Service, ServiceError, State,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tower::layer::layer_fn;
use tower::service_fn;
use tower::util::MapRequestLayer;

use crate::service::stage::{Gate, LONG, Stage, gated, listener};

async fn page(State(called): State<mpsc::UnboundedSender<()>>) -> Result<(), std::io::Error> {
    let _ = called.send(());
    Err(std::io::Error::other("the pager is broken"))
}

async fn status() -> &'static str {
    "on duty"
}

fn breaker() -> Breaker {
    Breaker::default().failures(2).open_for(LONG)
}

/// A notifier whose pager fails until its circuit opens. Returns when it is open and three pages wait.
async fn with_an_open_circuit(
    aether: &Aether,
    service: Service,
    calls: &mut mpsc::UnboundedReceiver<()>,
) -> Stage {
    let stage = Stage::run(aether, service).await;
    let alert = || Wave::builder("alerts.disk").kind(Kind::Command).amplitude(1.0).build().unwrap();
    for _ in 0..5 {
        stage.user.emit(alert()).await.unwrap();
    }
    for _ in 0..2 {
        tokio::time::timeout(LONG, calls.recv()).await.expect("the pager is called").unwrap();
    }
    stage
}

async fn an_operator_is_answered(aether: Aether) {
    let (called, mut calls) = mpsc::unbounded_channel();
    let service = Service::builder("notifier")
        .on_query("notifier.status", status)
        .handlers(
            Handlers::new()
                .state(called)
                .on("alerts.*", page)
                .limits(Limits::new().concurrency(1).circuit_breaker(breaker())),
        )
        .build(&aether)
        .await
        .unwrap();
    let stage = with_an_open_circuit(&aether, service, &mut calls).await;
    for _ in 0..20 {
        assert_eq!(stage.ask("notifier.status", &()).await.unwrap().text().unwrap(), "on duty");
    }
    assert!(calls.try_recv().is_err(), "the circuit is open");
    let report = stage.close().await;
    // The open circuit lost nothing: what waited is in the report.
    assert_eq!((report.succeeded, report.failed, report.left), (20, 2, 3), "{report}");
    let ledger = aether.ledger();
    assert!(ledger.adds_up() && ledger.lost() == 0, "{ledger:?}");
}

#[tokio::test]
async fn while_the_circuit_of_one_set_is_open_the_queries_of_another_are_answered() {
    an_operator_is_answered(Aether::local()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_circuit_of_one_set_is_open_the_queries_of_another_are_answered_over_nats() {
    let server = NatsServer::start().await.unwrap();
    an_operator_is_answered(aether::connect(&server.url()).await.unwrap()).await;
}

/// The reason for sets: a breaker of the whole service makes everything wait.
#[tokio::test(start_paused = true)]
async fn the_circuit_of_the_whole_service_makes_all_queries_wait() {
    let aether = Aether::local();
    let (called, mut calls) = mpsc::unbounded_channel();
    let builder = Service::builder("notifier")
        .concurrency(1)
        .circuit_breaker(breaker())
        .on_query("notifier.status", status)
        .state(called)
        .on("alerts.*", page);
    let stage = with_an_open_circuit(&aether, builder.build(&aether).await.unwrap(), &mut calls).await;
    let question = Wave::builder("notifier.status").kind(Kind::Query).build().unwrap();
    let asked = stage.user.ask_within(question, LONG / 2).await;
    assert!(matches!(asked, Err(AskError::TimedOut { .. })), "{asked:?}");
    stage.close().await;
}

#[tokio::test]
async fn a_set_that_is_busy_and_full_leaves_the_others_alone() {
    let (gate, mut begun) = Gate::new();
    let aether = Aether::local();
    let service = Service::builder("service")
        .on_query("quick", async || "done")
        .handlers(
            Handlers::new()
                .state(gate.clone())
                .on("slow", gated)
                .inbox(InboxOptions::default().max_waves(4).when_full(WhenFull::Shed))
                .limits(Limits::new().concurrency(1)),
        )
        .build(&aether)
        .await
        .unwrap();
    let stage = Stage::run(&aether, service).await;
    stage.emit("slow", &()).await;
    begun.recv().await.unwrap();
    for _ in 0..10 {
        stage.emit("slow", &()).await;
        stage.ask("quick", &()).await.unwrap();
    }
    assert_eq!(aether.ledger().shed_full, 6, "of the slow ones");
    gate.let_go(5);
    for _ in 0..4 {
        begun.recv().await.unwrap();
    }
    let report = stage.close().await;
    assert_eq!((report.succeeded, report.left), (15, 0), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_set_has_the_limits_of_the_service_unless_it_has_its_own() {
    let never = std::future::pending::<()>;
    let retry = Resend::default().most(1).budget(RetryBudget::unlimited());
    let builder = Service::builder("service")
        .time_out(Duration::from_secs(1))
        .retry(retry)
        .on_query("default", never)
        .handlers(Handlers::new().on_query("inherits", never))
        .handlers(
            Handlers::new().on_query("longer", never).limits(Limits::new().time_out(Duration::from_secs(10))),
        )
        .handlers(
            Handlers::new()
                .on_query("alone", async || -> Result<(), &str> { Err("at once") })
                .limits(Limits::independent()),
        );
    let stage = Stage::of(builder).await;
    for (channel, least, most) in [("default", 2, 4), ("inherits", 2, 4), ("longer", 20, 22), ("alone", 0, 0)]
    {
        let begun = tokio::time::Instant::now();
        assert_eq!(stage.failure(channel, &()).await.0, FailureReason::HandlerFailed);
        let took = begun.elapsed().as_secs();
        assert!((least..=most).contains(&took), "{channel} took {took} s");
    }
    let report = stage.close().await;
    // Three were tried again; that set without retries was not.
    assert_eq!((report.received, report.retried, report.timed_out, report.failed), (7, 3, 3, 1), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_one_set_does_not_slow_the_others() {
    let builder = Service::builder("service").on_query("quick", async || {}).handlers(
        Handlers::new().on_query("slow", async || {}).limits(Limits::new().rate(1, Duration::from_secs(1))),
    );
    let stage = Stage::of(builder).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..10 {
        stage.ask("quick", &()).await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    for _ in 0..3 {
        stage.ask("slow", &()).await.unwrap();
    }
    assert_eq!(begun.elapsed().as_secs(), 2);
    stage.close().await;
}

#[tokio::test]
async fn layers_of_a_set_are_inside_of_those_of_the_service_and_around_its_handlers_only() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = |name: &'static str| {
        let seen = Arc::clone(&seen);
        MapRequestLayer::new(move |wave: Wave| {
            seen.lock().push((name, wave.channel().as_str().to_owned()));
            wave
        })
    };
    let builder = Service::builder("service")
        .on_query("plain", async || {})
        .handlers(
            Handlers::new().on_query("layered", async || {}).layer(notes("outer")).layer(notes("inner")),
        )
        .layer(notes("service"));
    let aether = Aether::local();
    let stage = Stage::run(&aether, builder.build(&aether).await.unwrap()).await;
    stage.ask("plain", &()).await.unwrap();
    stage.ask("layered", &()).await.unwrap();
    let seen = std::mem::take(&mut *seen.lock());
    let seen: Vec<_> = seen.iter().map(|(layer, channel)| (*layer, channel.as_str())).collect();
    let layered = "layered";
    assert_eq!(seen, [("service", "plain"), ("service", layered), ("outer", layered), ("inner", layered)]);
    stage.close().await;
}

/// A layer of one set that cannot be used any more ends the service, which reports everything.
#[tokio::test]
async fn a_layer_of_a_set_that_fails_for_good_ends_all_sets() {
    let aether = Aether::local();
    let broken = layer_fn(|_| BrokenLayer);
    let service = Service::builder("service")
        .on_query("plain", async || {})
        .handlers(Handlers::new().on("layered", async || {}).layer(broken))
        .build(&aether)
        .await
        .unwrap();
    let counters = service.counters();
    let ended = tokio::time::timeout(LONG, service.run_until(CancellationToken::new())).await.unwrap();
    assert!(matches!(ended, Err(ServiceError::Layer(_))), "{ended:?}");
    assert!(counters.report().adds_up());
}

#[derive(Clone)]
struct BrokenLayer;

impl tower::Service<Wave> for BrokenLayer {
    type Response = aether_service::Answer;
    type Error = std::io::Error;
    type Future = std::future::Pending<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Err(std::io::Error::other("no more")))
    }

    fn call(&mut self, _: Wave) -> Self::Future {
        std::future::pending()
    }
}

#[tokio::test]
async fn all_sets_speak_in_the_name_of_the_service_and_do_not_hear_its_waves() {
    let aether = Aether::local();
    let told = async |emitter: Emitter| {
        emitter.emit_wave("told", &1).await.unwrap();
        "done"
    };
    let service = Service::builder("service")
        .on_query("first", told)
        .on("told.nobody", async || {})
        .handlers(
            Handlers::new().on("told", async || -> Result<(), &str> { Err("the service heard itself") }),
        )
        .handlers(Handlers::new().on_query("second", told))
        .build(&aether)
        .await
        .unwrap();
    let id = service.emitter().source().clone();
    let mut told = listener(&aether, "told").await;
    let stage = Stage::run(&aether, service).await;
    for channel in ["first", "second"] {
        let answer = stage.ask(channel, &()).await.unwrap();
        assert_eq!(answer.source(), &id);
        assert_eq!(told.receive().await.unwrap().source(), &id);
    }
    let report = stage.close().await;
    assert_eq!((report.received, report.succeeded), (2, 2), "{report}");
    let names: Vec<_> = aether.inboxes().into_iter().map(|report| report.vibrator).collect();
    assert_eq!(names, ["listener", "service", "user"], "one account for each name");
}

#[tokio::test]
async fn sets_that_conflict_are_refused_and_nothing_is_subscribed() {
    let aether = Aether::local();
    let nothing = async || {};
    let shared = Service::builder("service").on("a.*", nothing).handlers(Handlers::new().on("a.b", nothing));
    let error = shared.build(&aether).await.unwrap_err();
    assert!(error.to_string().contains("a.* and a.b share channels"), "{error}");
    let shared = Service::builder("service")
        .handlers(Handlers::new().on("a.*", nothing))
        .handlers(Handlers::new().on("*.b", nothing));
    assert!(matches!(shared.build(&aether).await, Err(ServiceError::SeparateLimits { .. })));
    let empty = Service::builder("service").on("a", nothing).handlers(Handlers::new());
    assert!(matches!(empty.build(&aether).await, Err(ServiceError::NoHandlers)));
    let wrong = Handlers::new().on("b", nothing).limits(Limits::new().concurrency(0));
    let wrong = Service::builder("service").on("a", nothing).handlers(wrong).build(&aether).await;
    assert!(matches!(wrong, Err(ServiceError::Limits(_))));
    let wrong = Service::builder("service").on("a", nothing).handlers(Handlers::new().on("b b", nothing));
    assert!(matches!(wrong.build(&aether).await, Err(ServiceError::Pattern { .. })));
    assert!(aether.roster().await.unwrap().vibrators().is_empty());
    // All handlers may be in sets.
    let alone = Service::builder("service").handlers(Handlers::new().on_query("c", nothing));
    let stage = Stage::run(&aether, alone.build(&aether).await.unwrap()).await;
    stage.ask("c", &()).await.unwrap();
    stage.close().await;
}

#[tokio::test]
async fn a_set_may_be_a_group_of_several_instances() {
    let aether = Aether::local();
    let instance = async || {
        let set = Handlers::new().group("workers").on_query("work", async || "done");
        let service = Service::builder("service").on_query("status", status).handlers(set);
        Stage::run(&aether, service.build(&aether).await.unwrap()).await
    };
    let (first, second) = (instance().await, instance().await);
    let user = Vibrator::create("asker", &aether).await.unwrap();
    for _ in 0..10 {
        let question = Wave::builder("work").kind(Kind::Query).build().unwrap();
        user.ask_within(question, LONG).await.unwrap();
    }
    assert_eq!((first.close().await.succeeded, second.close().await.succeeded), (5, 5));
}

#[allow(dead_code, reason = "compiled only: the layers that a set takes")]
fn takes_layers_of_any_kind() -> Handlers {
    Handlers::new()
        .on("a", async || {})
        .layer(tower::timeout::TimeoutLayer::new(LONG))
        .layer(tower::limit::ConcurrencyLimitLayer::new(1))
        .layer(layer_fn(|_| service_fn(async |_: Wave| Err::<aether_service::Answer, _>("refused"))))
}
