//! Boundary rules where durable waves are read: a stream may hold what others have stored without any rules.

use aether::rules::{Border, Rule, Rules};
use aether_core::{Aether, Wave};
use aether_log::{ConsumerOptions, DurableLog, ResonateDurable, ResonateError};

use crate::durable::stage::{Place, connect, order, quick, receive, text};

fn border() -> Border {
    let shop = Rule::new("shop").emit(["orders.>", "notes.>"]).max_payload(16).max_rate(1000);
    Border::new(Rules::new([shop, Rule::new("billing").listen(["orders.>"])]).unwrap())
}

async fn connect_with_rules(log: &DurableLog) -> Aether {
    log.connect(aether::builder().url("local:").guard(border())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_in_jetstream_passes_over_what_the_rules_of_its_bus_refuse() {
    let place = Place::jetstream().await;
    let (log, of_strangers) = (place.open().await, place.open().await);
    let (ruled, free) = (connect_with_rules(&log).await, connect(&of_strangers).await);
    let (stranger, shop) = (free.emitter("stranger").unwrap(), free.emitter("shop").unwrap());
    stranger.emit(order("of a stranger", 0.5)).await.unwrap();
    shop.emit(order("more than 16 bytes", 0.5)).await.unwrap();
    shop.emit(order("as allowed", 0.5)).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    let delivery = receive(&consumer).await;
    assert_eq!(text(&delivery), "as allowed");
    delivery.ack().await.unwrap();
    let account = consumer.account().await.unwrap();
    assert_eq!((account.acknowledged, account.expired), (1, 2), "{account:?}");
    assert_eq!((ruled.status().refused_by_rules, free.status().refused_by_rules), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_do_not_count_for_what_was_stored_before() {
    let place = Place::jetstream().await;
    let (log, of_strangers) = (place.open().await, place.open().await);
    let free = connect(&of_strangers).await;
    let waves: Vec<Wave> = (0..300).map(|_| order("an order", 0.5)).collect();
    free.emitter("slow").unwrap().emit_all(waves).await.unwrap();
    let slow = Rule::new("slow").emit(["orders.>"]).max_rate(1);
    let border = Border::new(Rules::new([slow]).unwrap());
    let ruled = log.connect(aether::builder().url("local:").guard(border)).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    for _ in 0..300 {
        receive(&consumer).await.ack().await.unwrap();
    }
    assert_eq!(ruled.status().refused_by_rules, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_consumer_needs_a_grant_for_its_name() {
    for place in [Place::folder(), Place::jetstream().await] {
        let log = place.open().await;
        let aether = connect_with_rules(&log).await;
        aether.emitter("shop").unwrap().emit(order("an order", 0.5)).await.unwrap();
        for (pattern, name) in [("orders.>", "spy"), ("notes.>", "billing")] {
            let refused = aether.resonate_durable(pattern, name).unwrap_err();
            assert!(matches!(refused, ResonateError::NotAllowed(_)), "{refused}");
        }
        let consumer = aether.resonate_durable("orders.>", "billing").unwrap();
        assert_eq!(text(&receive(&consumer).await), "an order");
        // The log itself has no rules.
        log.consumer("spy", "orders.>", ConsumerOptions::default()).unwrap();
    }
}
