//! The log of a service: the span around each handling, its start and end, failures, and the connection.

use std::io::Write;
use std::sync::{Arc, Mutex};

use aether_conformance::NatsServer;
use aether_core::{Aether, Emitter, Vibrator, Wave};
use aether_service::{Handlers, Json, Service};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;

use crate::service::proxy::Proxy;
use crate::service::stage::{Gate, LONG, Stage, gated};

/// The log of this thread, as text. Each write is one line.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: Arc<Notify>,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.lines.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        self.grown.notify_one();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs with this filter until the guard is dropped.
    fn with(filter: &str) -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(LevelFilter::TRACE);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        let filter: Targets = filter.parse().unwrap();
        (log, set_default(subscriber.with(filter)))
    }

    /// The first line with this text, at once or later.
    async fn line(&self, text: &str) -> String {
        let found = async {
            loop {
                let line = self.lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned();
                match line {
                    Some(line) => return line,
                    None => self.grown.notified().await,
                }
            }
        };
        let found = timeout(LONG, found).await;
        found.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.lines.lock().unwrap()))
    }

    fn count(&self, text: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }
}

async fn says(emitter: Emitter) -> Result<(), aether_core::EmitError> {
    tracing::info!("the handler of an author");
    emitter.emit_wave("next", &1).await?;
    Ok(())
}

async fn next() {
    tracing::info!("the next handler");
}

#[tokio::test]
async fn each_handling_has_a_span_with_the_wave_its_cause_and_the_root() {
    let (log, _guard) = Log::with("info,aether::handling=debug");
    let service = Service::builder("desk").on("first", says).on("fails", async || Err::<(), _>("no lamp"));
    let aether = Aether::local();
    let stage = Stage::on(aether.clone(), service).await;
    let second = Stage::on(aether, Service::builder("second").on("next", next)).await;
    let user = stage.user.with_baggage("tenant", "acme").unwrap();
    let first = user.id_of(&user.emit_wave("first", &1).await.unwrap());
    let line = log.line("the handler of an author").await;
    let about = format!(
        "handling{{service=\"desk\" channel=\"first\" wave={first} source=\"user\" root={first} attempt=0 baggage=tenant=acme}}"
    );
    assert!(line.contains(&about), "{line}");
    let line = log.line("the next handler").await;
    for part in
        [format!("cause={first} root={first}"), "channel=\"next\"".to_owned(), "baggage=tenant".to_owned()]
    {
        assert!(line.contains(&part), "{part} in {line}");
    }
    let failed = stage.user.id_of(&stage.user.emit_wave("fails", &1).await.unwrap());
    let line = log.line("a wave was not handled").await;
    let span = format!("handling{{service=\"desk\" channel=\"fails\" wave={failed}");
    let event =
        format!("outcome=\"failed\" channel=fails wave={failed} root={failed} attempt=0 hint=\"no lamp\"");
    assert!(line.contains(&span) && line.contains(&event), "around the framework's own warnings: {line}");
    stage.close().await;
    second.close().await;
}

#[tokio::test]
async fn a_span_that_is_off_leaves_the_correlation_in_the_warnings() {
    let (log, _guard) = Log::with("info");
    let stage = Stage::of(Service::builder("desk").on("fails", async || Err::<(), _>("no lamp"))).await;
    let failed = stage.user.id_of(&stage.user.emit_wave("fails", &1).await.unwrap());
    let line = log.line("a wave was not handled").await;
    assert!(!line.contains("handling{") && line.contains(&format!("wave={failed} root={failed}")), "{line}");
    stage.close().await;
}

#[tokio::test]
async fn a_service_says_what_it_hears_when_it_starts_and_its_account_when_it_ends() {
    let (log, _guard) = Log::with("info");
    let service = Service::builder("desk")
        .on("orders.*", async || {})
        .group("desks")
        .on_query("desk.status", async || Json(1))
        .handlers(Handlers::new().on("alerts.>", async || {}));
    let stage = Stage::of(service).await;
    let line = log.line("the service started").await;
    assert!(
        line.contains("hears=\"orders.*, desk.status (group desks), alerts.>\"")
            && line.contains("service=desk@"),
        "{line}"
    );
    stage.ask("desk.status", &1).await.unwrap();
    stage.close().await;
    let line = log.line("the service ended").await;
    assert!(line.contains("INFO") && line.contains("1 received = 1 succeeded"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_of_each_kind_is_logged_at_once_and_the_others_are_counted() {
    let (log, _guard) = Log::with("info");
    let aether = Aether::local();
    let service = Service::builder("desk")
        .concurrency(1)
        .on("a.*", async |Json(fails): Json<bool>| if fails { Err("no lamp") } else { Ok(()) })
        .on("b", async || -> Result<(), &str> { Err("no shelf") });
    let stage = Stage::run(&aether, service.build(&aether).await.unwrap()).await;
    for _ in 0..3 {
        stage.emit("a.1", &true).await;
        stage.emit("a.2", &"not a bool").await;
        stage.emit("b", &()).await;
    }
    // The time passes by itself while everything waits.
    for (handler, outcome) in [("a.*", "failed"), ("a.*", "rejected"), ("b", "failed")] {
        let line = log.line(&format!("handler=\"{handler}\" outcome=\"{outcome}\" failures=2")).await;
        assert!(line.contains("more waves were not handled"), "{line}");
    }
    assert_eq!((log.count("a wave was not handled"), log.count("more waves")), (3, 3));
    // Failures counted since then are logged at the end.
    for _ in 0..5 {
        stage.failure("b", &()).await;
    }
    let report = stage.close().await;
    assert_eq!((report.failed, report.rejected), (11, 3));
    log.line("handler=\"b\" outcome=\"failed\" failures=5").await;
    assert_eq!((log.count("a wave was not handled"), log.count("more waves")), (3, 4));
}

#[tokio::test]
async fn an_outage_is_logged_once_with_how_long_it_was_and_what_was_lost() {
    let (log, _guard) = Log::with("info,async_nats=off");
    let mut server = NatsServer::start().await.unwrap();
    // Without the arguments of a program, and with two services on one connection.
    let aether = aether::connect(&server.url()).await.unwrap();
    let first = Stage::on(aether.clone(), Service::builder("first").on("a", async || {})).await;
    let second = Stage::on(aether.clone(), Service::builder("second").on("a", async || {})).await;
    server.kill().await.unwrap();
    log.line("the connection to the server broke").await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for _ in 0..3 {
        shop.emit(Wave::from_bytes("b", "x").unwrap()).await.unwrap();
    }
    server.restart().await.unwrap();
    let line = log.line("the server is back after ").await;
    for part in ["were under way when it broke and may be lost", "were shed meanwhile", "wait to be sent"] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!((log.count("broke; reconnecting"), log.count("is back after")), (1, 1));
    first.close().await;
    second.close().await;
}

#[tokio::test]
async fn waves_that_others_sent_during_an_outage_are_counted_in_the_log() {
    let (log, _guard) = Log::with("info,async_nats=off");
    let server = NatsServer::start().await.unwrap();
    let proxy = Proxy::new(server.port()).await.unwrap();
    let (gate, mut begun) = Gate::new();
    gate.let_go(2);
    let aether = aether::connect(&proxy.url()).await.unwrap();
    let stage = Stage::on(aether.clone(), Service::builder("desk").state(gate).on("a", gated)).await;
    let elsewhere = aether::connect(&server.url()).await.unwrap();
    let shop = Vibrator::create("shop", &elsewhere).await.unwrap();
    let emit = async || {
        shop.emit_bytes("a", "x").await.unwrap();
        elsewhere.flush().await.unwrap();
    };
    let mut heard = async || timeout(LONG, begun.recv()).await.unwrap().unwrap();
    emit().await;
    heard().await;
    timeout(LONG, proxy.cut()).await.unwrap();
    log.line("the connection to the server broke").await;
    for _ in 0..3 {
        emit().await;
    }
    proxy.mend();
    log.line("the server is back").await;
    // The subscriptions are in force again. The next wave shows the gap.
    aether.flush().await.unwrap();
    emit().await;
    heard().await;
    // They are counted for some seconds, in which nothing else happens.
    tokio::time::pause();
    let line = log.line("waves to this process were lost while the connection was away").await;
    tokio::time::resume();
    assert!(line.contains("WARN") && line.contains("lost=3"), "{line}");
    stage.close().await;
}
