//! A stock in a store: what survives a restart.

use std::path::Path;
use std::time::Duration;

use aether_core::{Aether, Kind, Vibrator, Wave};
use aether_outbox::Store;
use aether_service::CancellationToken;
use aether_service_beta::messages::{self, Answer};
use aether_service_beta::{Beta, BetaOptions, Sku, StockSummary};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

struct Shop {
    customer: Vibrator,
    stop: CancellationToken,
    beta: JoinHandle<StockSummary>,
}

impl Shop {
    async fn open(folder: &Path, aether: &Aether) -> Self {
        let store = Store::builder("beta").open(folder.join("stock.redb")).unwrap();
        let options =
            BetaOptions::default().article(Sku::new("lamp").unwrap(), 10).heartbeat(None).store(store);
        let (beta, stop) = (Beta::start(aether, options).await.unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        let beta = tokio::spawn(async move { beta.run(stopped).await.unwrap() });
        Self { customer: Vibrator::create("customer", aether).await.unwrap(), stop, beta }
    }

    async fn ask(&self, channel: &str, payload: Value) -> Answer {
        let question = Wave::builder(channel).kind(Kind::Command).json(&payload).build().unwrap();
        self.customer.ask_within(question, Duration::from_secs(120)).await.unwrap().json().unwrap()
    }

    async fn reserve(&self, order: &str, quantity: u32) -> Answer {
        self.ask(messages::RESERVE, json!({ "order": order, "sku": "lamp", "quantity": quantity })).await
    }

    async fn close(self) -> StockSummary {
        self.stop.cancel();
        self.beta.await.unwrap()
    }
}

#[tokio::test]
async fn a_stock_in_a_store_is_the_same_after_a_restart_and_each_change_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let aether = Aether::local();
    let mut events = Vibrator::create("events", &aether).await.unwrap();
    for told in [messages::RESERVED, messages::REFUSED, messages::RELEASED, messages::RESTOCKED] {
        events.resonate_on(told).await.unwrap();
    }
    let shop = Shop::open(folder.path(), &aether).await;
    assert_eq!(shop.reserve("1", 3).await, Answer::Reserved { available: 7 });
    assert_eq!(shop.ask(messages::COMMIT, json!({ "order": "1" })).await, Answer::Sold);
    assert_eq!(shop.reserve("2", 2).await, Answer::Reserved { available: 5 });
    assert_eq!(shop.reserve("3", 1).await, Answer::Reserved { available: 4 });
    assert_eq!(shop.ask(messages::RELEASE, json!({ "order": "3" })).await, Answer::Released);
    assert!(matches!(shop.reserve("4", 9).await, Answer::Refused { .. }));
    let restock = json!({ "sku": "lamp", "quantity": 4 });
    assert_eq!(shop.ask(messages::RESTOCK, restock).await, Answer::Restocked { available: 9 });
    let before = shop.close().await;
    assert_eq!((before.supplied, before.available, before.reserved, before.sold), (14, 9, 2, 3));

    let shop = Shop::open(folder.path(), &aether).await;
    // Questions of before have the answers of before.
    assert_eq!(shop.ask(messages::RELEASE, json!({ "order": "1" })).await, Answer::AlreadySold);
    assert_eq!(shop.reserve("2", 2).await, Answer::Reserved { available: 9 });
    assert!(matches!(shop.reserve("3", 1).await, Answer::Refused { .. }));
    assert!(matches!(shop.reserve("4", 9).await, Answer::Refused { .. }));
    assert_eq!(shop.ask(messages::COMMIT, json!({ "order": "2" })).await, Answer::Sold);
    let after = shop.close().await;
    assert_eq!((after.supplied, after.available, after.reserved, after.sold), (14, 9, 0, 5));
    let mut told = Vec::new();
    while let Ok(event) = events.try_receive() {
        told.push(format!("{} {}", event.channel(), event.key().unwrap()));
    }
    told.sort();
    let expected = [
        "inventory.refused 4",
        "inventory.released 3",
        "inventory.reserved 1",
        "inventory.reserved 2",
        "inventory.reserved 3",
        "inventory.restocked lamp",
    ];
    assert_eq!(told, expected);
}
