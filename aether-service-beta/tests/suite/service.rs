//! The inventory service on a bus: its answers and its events.

use std::time::Duration;

use aether_core::{AskError, FailureReason, Kind, Phase, Vibrator, Wave};
use aether_service_beta::messages::{self, Answer};
use aether_service_beta::{Beta, BetaOptions, Refusal, Sku, StockSummary};
use aether_testing::{Matcher, Probe, TestBus};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

struct Shop {
    bus: TestBus,
    customer: Vibrator,
    probe: Probe,
    beta: JoinHandle<StockSummary>,
}

impl Shop {
    async fn open(options: BetaOptions) -> Self {
        let bus = TestBus::start().await;
        let probe = bus.probe("inventory.*").await.within(Duration::from_secs(120));
        let customer = bus.vibrator("customer").await;
        let (beta, stop) = (Beta::start(bus.aether(), options).await.unwrap(), bus.shutdown());
        let beta = tokio::spawn(async move { beta.run(stop).await.unwrap() });
        Self { bus, customer, probe, beta }
    }

    async fn ask(&self, channel: &str, payload: Value) -> Answer {
        let question = Wave::builder(channel).kind(Kind::Command).json(&payload).build().unwrap();
        let answer = self.customer.ask_within(question, Duration::from_secs(5)).await.unwrap();
        answer.json().unwrap()
    }

    async fn reserve(&self, order: &str, quantity: u32) -> Answer {
        self.ask(messages::RESERVE, json!({ "order": order, "sku": "lamp", "quantity": quantity })).await
    }

    /// The next event on this channel about this order or article.
    async fn told(&mut self, channel: &str, key: &str) -> Wave {
        self.probe.wave(Matcher::on(channel).key(key)).await
    }

    /// Ends the service. Returns the stock and the events that the test did not take.
    async fn close(mut self) -> (StockSummary, Vec<String>) {
        self.bus.shutdown().cancel();
        let summary = self.beta.await.unwrap();
        let events = Matcher::on("*").kind(Kind::Event).source("beta");
        let rest = self.probe.rest().into_iter().filter(|wave| events.matches(wave));
        let rest = rest.filter(|wave| wave.channel().as_str() != messages::LEVEL);
        let rest = rest.map(|wave| format!("{} {}", wave.channel(), wave.key().unwrap())).collect();
        self.bus.finish().await;
        (summary, rest)
    }
}

fn lamps(units: u32) -> BetaOptions {
    BetaOptions::default().article(Sku::new("lamp").unwrap(), units).low_at(2)
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_answered_announced_and_sold() {
    let mut shop = Shop::open(lamps(10)).await;
    assert_eq!(shop.reserve("17", 3).await, Answer::Reserved { available: 7 });
    let wave = shop.told(messages::RESERVED, "17").await;
    assert_eq!(wave.cause().unwrap().source.name(), "customer");
    assert_eq!(wave.json::<Value>().unwrap(), json!({ "order": "17", "sku": "lamp", "quantity": 3 }));

    assert_eq!(shop.ask(messages::COMMIT, json!({ "order": "17" })).await, Answer::Sold);
    assert_eq!(shop.ask(messages::RELEASE, json!({ "order": "17" })).await, Answer::AlreadySold);
    assert_eq!(shop.ask(messages::COMMIT, json!({ "order": "18" })).await, Answer::NotReserved);
    let (summary, rest) = shop.close().await;
    assert_eq!((summary.sold, summary.available, summary.reserved), (3, 7, 0));
    assert_eq!(rest, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_question_asked_twice_is_answered_twice_and_announced_once() {
    let shop = Shop::open(lamps(5)).await;
    for _ in 0..2 {
        assert_eq!(shop.reserve("1", 1).await, Answer::Reserved { available: 4 });
    }
    for _ in 0..2 {
        let Answer::Refused { refusal } = shop.reserve("2", 9).await else { panic!("not refused") };
        assert!(matches!(refusal, Refusal::OutOfStock { available: 4, .. }), "{refusal}");
    }
    for _ in 0..2 {
        assert_eq!(shop.ask(messages::RELEASE, json!({ "order": "1" })).await, Answer::Released);
    }
    let (summary, mut rest) = shop.close().await;
    assert_eq!((summary.available, summary.reserved), (5, 0));
    rest.sort();
    assert_eq!(rest, ["inventory.refused 2", "inventory.released 1", "inventory.reserved 1"]);
}

#[tokio::test(start_paused = true)]
async fn running_low_is_a_strong_claim_that_a_restock_retracts() {
    let mut shop = Shop::open(lamps(5)).await;
    shop.reserve("1", 3).await;
    shop.reserve("2", 1).await;
    shop.ask(messages::RESTOCK, json!({ "sku": "lamp", "quantity": 4 })).await;
    let low = shop.probe.waves(2, Matcher::on(messages::LOW).key("lamp")).await;
    assert!(low.iter().all(|wave| wave.amplitude().as_f32() > 0.8));
    let low = low.iter().map(|wave| (wave.phase(), wave.json::<messages::Low>().unwrap().available));
    let low: Vec<_> = low.collect();
    assert_eq!(low, [(Phase::ASSERT, 2), (Phase::RETRACT, 5)]);
    let (summary, rest) = shop.close().await;
    assert_eq!((summary.supplied, rest.len()), (9, 3), "two reservations and a restock");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_question_is_answered_and_changes_nothing() {
    let shop = Shop::open(lamps(5)).await;
    let none = json!({ "order": "1", "sku": "lamp", "quantity": 0 });
    match shop.customer.ask_wave(messages::RESERVE, &none).await {
        Err(AskError::Failed { source, .. }) => {
            assert_eq!(source.reason, FailureReason::Rejected);
            assert!(source.hint.contains("nonzero"), "{}", source.hint);
        }
        other => panic!("not refused: {other:?}"),
    }
    let unknown = shop.ask(messages::RESTOCK, json!({ "sku": "moon", "quantity": 1 })).await;
    assert!(matches!(unknown, Answer::Refused { refusal: Refusal::UnknownSku { .. } }));
    let (summary, rest) = shop.close().await;
    assert_eq!((summary.available, rest.len()), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_expects_no_answer_is_carried_out_as_well() {
    let mut shop = Shop::open(lamps(5)).await;
    shop.customer.emit_wave(messages::RESTOCK, &json!({ "sku": "lamp", "quantity": 3 })).await.unwrap();
    shop.told(messages::RESTOCKED, "lamp").await;
    assert_eq!(shop.close().await.0.available, 8);
}

#[tokio::test(start_paused = true)]
async fn the_stock_is_restocked_periodically() {
    let mut shop = Shop::open(lamps(5).restock_every(Some(Duration::from_secs(3)))).await;
    shop.reserve("1", 2).await;
    shop.told(messages::RESERVED, "1").await;
    assert_eq!(shop.told(messages::RESTOCKED, "lamp").await.cause(), None);
    let (summary, _) = shop.close().await;
    assert_eq!((summary.supplied, summary.available, summary.reserved), (7, 5, 2));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_reservation_is_released() {
    let mut shop = Shop::open(lamps(5).hold(Duration::from_secs(60))).await;
    shop.reserve("1", 2).await;
    shop.told(messages::RESERVED, "1").await;
    shop.told(messages::RELEASED, "1").await;
    let late = shop.ask(messages::COMMIT, json!({ "order": "1" })).await;
    assert_eq!(late, Answer::NotReserved);
    assert_eq!(shop.close().await.0.available, 5);
}
