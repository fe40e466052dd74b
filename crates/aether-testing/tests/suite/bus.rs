//! The test bus, its probes and its checks: what passes, and what a test that fails prints.

use std::task::{Context, Poll};
use std::time::Duration;

use aether_core::{AskError, EmitError, Emitter, Kind, Wave};
use aether_service::{Answer, Json, Rejection, Service};
use aether_testing::{Matcher, TestBus};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

/// The output of a test that panics.
async fn failure<T: Send + 'static>(test: impl Future<Output = T> + Send + 'static) -> String {
    let panic = tokio::spawn(test).await.map(drop).expect_err("the test passed").into_panic();
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

async fn confirm(wave: Wave, Json(order): Json<u32>, emitter: Emitter) -> Result<(), EmitError> {
    let confirmed = Wave::builder("orders.confirmed").key(wave.key().unwrap_or("-")).json(order).build()?;
    emitter.emit(confirmed).await.map(drop)
}

async fn refuse() -> Result<(), Rejection> {
    Err(Rejection::new("not today"))
}

#[tokio::test(start_paused = true)]
async fn a_probe_takes_each_wave_once_and_counts_all() {
    let bus = TestBus::start().await;
    bus.serve(Service::builder("stock").on("orders.created", confirm)).await;
    let mut probe = bus.probe("orders.*").await;
    let shop = bus.vibrator("shop").await;
    for order in 1..=3 {
        shop.emit_wave("orders.created", &order).await.unwrap();
    }
    assert_eq!(probe.wave(Matcher::on("orders.confirmed").json(&2)).await.source().name(), "stock");
    let confirmed = probe.waves(2, "orders.confirmed").await;
    assert_eq!(confirmed.iter().map(|wave| wave.json::<u32>().unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(probe.count("orders.confirmed"), 3);
    probe.none(SECOND, "orders.confirmed").await;
    assert_eq!(probe.rest().len(), 3, "the created ones");
    let account = bus.finish().await;
    assert_eq!(account.services, [("stock".to_owned(), account.services[0].1)]);
    assert_eq!((account.services[0].1.succeeded, account.inbox("stock").delivered), (3, 3));
    assert_eq!(account.inbox("nobody"), aether_core::Ledger::default());
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_prints_what_came_instead() {
    let text = failure(async {
        let bus = TestBus::start().await;
        bus.serve(Service::builder("stock").on("orders.created", confirm)).await;
        let mut probe = bus.probe("orders.*").await;
        let shop = bus.vibrator("shop").await;
        let order = Wave::builder("orders.created").key("7").json(17).build().unwrap();
        shop.emit(order).await.unwrap();
        probe.wave(Matcher::on("orders.confirmed").key("8").json(&17)).await;
    })
    .await;
    println!("{text}");
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("no wave came within 5s (crates/aether-testing/tests/suite/bus.rs:"),
        "{text}"
    );
    assert_eq!(lines[1], r#"  pattern: orders.confirmed where key is "8", payload is 17"#);
    assert_eq!(lines[3], r#"    stock/1: key is "7""#);
    assert!(text.contains("channel is orders.created"), "{text}");
    assert!(text.contains("this probe saw 2 waves:"), "{text}");
    assert!(text.contains("0.000 s  event     orders.created            from shop/1"), "{text}");
    assert!(text.contains("key=7  because of shop/1  17"), "{text}");
    assert!(text.contains("inbox of stock: 1 offered = 1 delivered + 0 queued"), "{text}");
    assert!(text.contains("service stock: 1 received = 1 succeeded + 0 retried + 0 in flight"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_sees_nothing_says_so_and_shows_the_dead_letters() {
    let text = failure(async {
        let bus = TestBus::start().await;
        let mut probe = bus.probe("orders.confirmed").await.within(2 * SECOND);
        let shop = bus.vibrator("shop").await;
        let lost = Wave::builder("stock.reserve")
            .kind(Kind::Command)
            .json(json!({ "sku": "lamp" }))
            .build()
            .unwrap();
        shop.emit(lost).await.unwrap();
        probe.waves(2, "*").await;
    })
    .await;
    println!("{text}");
    assert!(text.starts_with("0 of the 2 waves came within 2s"), "{text}");
    assert!(text.contains("this probe saw no waves"), "{text}");
    assert!(text.contains(r#"{"sku":"lamp"}"#) && text.contains("no_resonator at -"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_wave_that_should_not_come_is_shown() {
    let text = failure(async {
        let bus = TestBus::start().await;
        let mut probe = bus.probe("*").await;
        let shop = bus.vibrator("shop").await;
        tokio::spawn(async move {
            tokio::time::sleep(3 * SECOND).await;
            shop.emit_wave("orders.failed", &17).await.unwrap();
        });
        probe.none(2 * SECOND, "orders.failed").await;
        probe.none(2 * SECOND, "orders.failed").await;
    })
    .await;
    println!("{text}");
    assert!(text.starts_with("the wave shop/1 came, and none should ("), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_nobody_looked_at_fails_the_test() {
    let unheard = || Wave::builder("stock.reserve").kind(Kind::Command).text("a lamp").build().unwrap();
    let text = failure(async move {
        let bus = TestBus::start().await;
        bus.vibrator("shop").await.emit(unheard()).await.unwrap();
        bus.finish().await;
    })
    .await;
    println!("{text}");
    assert!(
        text.starts_with("the test ended with problems (crates/aether-testing/tests/suite/bus.rs:"),
        "{text}"
    );
    assert!(text.contains("1 dead letter that the test did not look at"), "{text}");

    let text = failure(async move {
        let bus = TestBus::start().await;
        bus.vibrator("shop").await.emit(unheard()).await.unwrap();
    })
    .await;
    assert!(text.starts_with("a test bus was dropped with problems:"), "{text}");

    let bus = TestBus::start().await;
    let shop = bus.vibrator("shop").await;
    shop.emit(unheard()).await.unwrap();
    assert_eq!(bus.dead_letters().len(), 1);
    bus.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_dropped_by_a_failing_test_does_not_fail_again() {
    let text = failure(async {
        let bus = TestBus::start().await;
        let shop = bus.vibrator("shop").await;
        shop.emit(Wave::builder("nobody.hears").kind(Kind::Command).build().unwrap()).await.unwrap();
        panic!("the reason");
    })
    .await;
    assert_eq!(text, "the reason");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_built_fails_with_the_line_of_the_test() {
    let text = failure(async {
        let bus = TestBus::start().await;
        bus.serve(Service::builder("stock")).await;
    })
    .await;
    assert!(
        text.starts_with("cannot build the service (crates/aether-testing/tests/suite/bus.rs:"),
        "{text}"
    );
    assert!(text.contains("the service or one of its sets has no handlers"), "{text}");
    let text = failure(async { TestBus::start().await.probe("a..b").await }).await;
    assert!(text.starts_with(r#"cannot probe "a..b" (crates/aether-testing/tests/suite/bus.rs:"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_stopped_or_crashes_and_is_counted() {
    let bus = TestBus::start().await;
    let stuck = bus.serve(Service::builder("stuck").on("stuck.*", std::future::pending::<()>)).await;
    let stock = bus.serve(Service::builder("stock").on("orders.created", confirm).on("no.*", refuse)).await;
    let shop = bus.vibrator("shop").await;
    let mut echoes = shop.echoes().await.unwrap();
    shop.emit_wave("orders.created", &1).await.unwrap();
    shop.emit(Wave::builder("no.thanks").kind(Kind::Command).build().unwrap()).await.unwrap();
    assert_eq!(echoes.receive().await.unwrap().hint, "not today");
    let report = stock.stop().await;
    assert_eq!((report.succeeded, report.rejected), (1, 1));
    let asked = shop.ask_wave("orders.created", &1).await;
    assert!(matches!(asked, Err(AskError::NoResonator { .. })), "{asked:?}");

    shop.emit_wave("stuck.here", &1).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(stuck.report().in_flight, 1);
    stuck.crash().await;
    assert_eq!(stuck.report().abandoned, 1);
    let account = bus.finish().await;
    assert_eq!(account.services.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_recording_is_the_same_text_in_every_run() {
    let run = async || {
        let bus = TestBus::start().await;
        bus.serve(Service::builder("stock").on("orders.created", confirm)).await;
        let mut probe = bus.probe("*").await;
        let (shop, other) = (bus.vibrator("shop").await, bus.vibrator("shop").await);
        shop.emit(Wave::builder("orders.created").key("7").amplitude(0.9).json(17).build().unwrap())
            .await
            .unwrap();
        tokio::time::sleep(1500 * Duration::from_millis(1)).await;
        other
            .emit(Wave::builder("noise").metadata("lang", "en").bytes(vec![0; 9]).build().unwrap())
            .await
            .unwrap();
        shop.emit(Wave::builder("orders.wanted").phase(aether_core::Phase::RETRACT).build().unwrap())
            .await
            .unwrap();
        let recording = probe.recording();
        bus.finish().await;
        recording
    };
    let first = run().await;
    println!("{first}");
    assert_eq!(
        first.to_string(),
        "  1     0.000 s  event     orders.created            from shop          0.90  key=7  17
  2     0.000 s  event     orders.confirmed          from stock         0.50  key=7  because of 1  17
  3     1.500 s  event     noise                     from shop#2        0.50  lang=en  <9 bytes>
  4     1.500 s  event     orders.wanted             from shop          0.50  retracts
"
    );
    assert_eq!(first.to_string(), run().await.to_string());
    let short = first.without_times().without("orders.*").to_string();
    assert_eq!(
        short,
        "  1  event     noise                     from shop          0.50  lang=en  <9 bytes>\n"
    );
}

/// A layer that fails for good.
struct Broken;

impl<S> tower::Layer<S> for Broken {
    type Service = Self;
    fn layer(&self, _: S) -> Self {
        Self
    }
}

impl tower::Service<Wave> for Broken {
    type Response = Answer;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Answer, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Err("the licence has expired"))
    }

    fn call(&mut self, _: Wave) -> Self::Future {
        std::future::ready(Err("never ready"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_failed_fails_the_test() {
    let text = failure(async {
        let bus = TestBus::start().await;
        bus.serve(Service::builder("stock").on("orders.created", confirm).layer(Broken)).await;
        tokio::time::sleep(SECOND).await;
        bus.finish().await;
    })
    .await;
    assert!(text.contains("the service stock failed: a layer of the service failed"), "{text}");
    assert!(text.contains("the licence has expired"), "{text}");
}
