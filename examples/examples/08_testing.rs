//! Testing a service: a bus for tests, probes, paused time, and faults by seed.
//!
//! The three functions below the service are tests; in a project of yours they have `#[tokio::test(start_paused = true)]`
//! and are in `tests/`. Here they are run one after the other, in hours of virtual time and no time at all.
//!
//! `cargo run -p aether-examples --example 08_testing`

use std::time::Duration;

use aether_core::{EmitError, Emitter, Kind, Wave};
use aether_service::{Breaker, Json, Resend, Service, ServiceBuilder, State};
use aether_testing::{Call, Fault, Faults, Matcher, TestBus};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Alert {
    machine: String,
    degrees: u32,
}

/// The service under test: pages somebody about alerts above a limit.
async fn page(State(limit): State<u32>, Json(alert): Json<Alert>, emitter: Emitter) -> Result<(), EmitError> {
    if alert.degrees > limit {
        let page = Wave::builder("pages.sent").kind(Kind::Event).key(&alert.machine).json(&alert).build()?;
        emitter.emit(page).await?;
    }
    Ok(())
}

fn pager() -> ServiceBuilder<u32> {
    Service::builder("pager")
        .state(80)
        .on("alerts.*", page)
        .retry(Resend::default())
        .circuit_breaker(Breaker::default().failures(3).open_for(Duration::from_secs(600)))
}

fn alert(machine: &str, degrees: u32) -> Wave {
    let alert = Alert { machine: machine.to_owned(), degrees };
    Wave::builder("alerts.heat").kind(Kind::Command).json(&alert).build().expect("the wave is valid")
}

/// A handler alone: no service, no subscription.
async fn a_cool_machine_pages_nobody() {
    let called = Call::new(alert("oven", 79)).state(80).run(page).await;
    assert!(called.returned.is_ok_and(|outcome| outcome.is_ok()) && called.emitted.is_empty());
}

/// The service on a bus: a probe awaits what it emits, and prints what came instead if it does not.
async fn a_hot_machine_pages_once() {
    let bus = TestBus::start().await;
    bus.serve(pager()).await;
    let mut probe = bus.probe("*").await;
    let sensor = bus.vibrator("sensor").await;
    sensor.emit(alert("oven", 95)).await.expect("the bus is open");
    let page = probe.wave(Matcher::on("pages.sent").key("oven")).await;
    assert_eq!(page.json::<Alert>().expect("an alert").degrees, 95);
    // An hour, which passes at once.
    probe.none(Duration::from_secs(3600), "pages.*").await;
    println!("what flowed:\n{}", probe.recording());
    bus.finish().await; // every account adds up, and no dead letter is left unseen
}

/// The service behind a bad network: three of ten alerts are lost, the others are late, and some arrive twice.
async fn a_bad_network_is_counted() {
    let faults = Faults::with_seed(1); // Faults::new() draws a seed and prints it if the test fails
    faults.add(Fault::lose(0.3).on("alerts.*"));
    faults.add(Fault::delay(Duration::from_secs(1)).up_to(Duration::from_secs(30)));
    faults.add(Fault::duplicate(0.1).on("alerts.*"));
    let bus = TestBus::builder().faults(&faults).start().await;
    let service = bus.serve(pager()).await;
    let mut probe = bus.probe("pages.*").await;
    let sensor = bus.vibrator("sensor").await;
    for _ in 0..100 {
        sensor.emit(alert("oven", 95)).await.expect("the bus is open");
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    let (counts, report) = (faults.counts(), service.report());
    assert_eq!(counts.lost + report.received, 100 + counts.duplicated);
    assert_eq!(probe.count("pages.sent") as u64, report.succeeded);
    let account = bus.finish().await;
    println!("a bad network:\n{account}");
}

// A real program runs in real time. This one is three tests.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    a_cool_machine_pages_nobody().await;
    a_hot_machine_pages_once().await;
    a_bad_network_is_counted().await;
}
