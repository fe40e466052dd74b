//! The kit over a real NATS server, in real time.

use std::time::Duration;

use aether_core::{AskError, Kind, Wave};
use aether_service::{Json, Service};
use aether_testing::{Fault, Faults, NatsServer, TestBus};

/// Only a failing test waits this long.
const LONG: Duration = Duration::from_secs(120);

async fn double(Json(number): Json<u32>) -> Json<u32> {
    Json(2 * number)
}

#[tokio::test]
async fn the_same_test_runs_over_a_real_server() {
    let server = NatsServer::start().await.unwrap();
    let bus = TestBus::builder().over(aether::builder().url(server.url())).start().await;
    bus.serve(Service::builder("calculator").on_query("double", double)).await;
    let mut probe = bus.probe("double").await.within(LONG);
    let shop = bus.vibrator("shop").await;
    let question = Wave::builder("double").kind(Kind::Query).json(21).build().unwrap();
    assert_eq!(shop.ask_within(question, LONG).await.unwrap().json::<u32>().unwrap(), 42);
    let question = probe.wave("double").await;
    let answer = probe.wave("double").await;
    assert_eq!((question.kind(), answer.kind()), (Kind::Query, Kind::Response));
    let account = bus.finish().await;
    assert_eq!(account.services[0].1.succeeded, 1);
}

#[tokio::test]
async fn a_partition_cuts_a_process_off_while_its_connection_stands() {
    let server = NatsServer::start().await.unwrap();
    let faults = Faults::with_seed(1);
    let near = TestBus::builder().over(aether::builder().url(server.url())).faults(&faults).start().await;
    let far = TestBus::builder().over(aether::builder().url(server.url())).start().await;
    far.serve(Service::builder("calculator").on_query("double", double)).await;
    far.aether().flush().await.unwrap();
    let shop = near.vibrator("shop").await;

    let cut = faults.add(Fault::partition());
    let question = |number: u32| Wave::builder("double").kind(Kind::Query).json(number).build().unwrap();
    let asked = shop.ask_within(question(1), Duration::from_millis(200)).await;
    assert!(matches!(asked, Err(AskError::TimedOut { .. })), "{asked:?}");
    assert!(near.aether().status().connected);
    faults.heal(cut);
    let asked = shop.ask_within(question(1), LONG).await.unwrap();
    assert_eq!(asked.json::<u32>().unwrap(), 2);
    assert_eq!((faults.counts().questions, faults.counts().questions_lost), (2, 1));
    near.finish().await;
    far.finish().await;
}
