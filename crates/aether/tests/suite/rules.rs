//! Boundary rules over a real server: what a receiver refuses.

use std::time::Duration;

use aether::rules::{Border, Rule, Rules, Schemas};
use aether_conformance::NatsServer;
use aether_core::{JoinError, Vibrator, Wave};

use crate::settling::flushed;

/// A bound for what takes milliseconds on an idle machine. No test waits for it to elapse.
const PATIENCE: Duration = Duration::from_secs(120);

async fn receive(vibrator: &mut Vibrator) -> Wave {
    let received = tokio::time::timeout(PATIENCE, vibrator.receive()).await;
    received.expect("a wave in time").unwrap()
}

fn rules() -> Rules {
    Rules::new([
        Rule::new("billing").emit(["invoices.>"]).listen(["orders.>"]).max_payload(8),
        Rule::new("audit").listen([">"]),
        Rule::new("shop").emit(["orders.>"]),
    ])
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_refuses_what_others_may_not_emit_and_counts_it() {
    let server = NatsServer::start().await.unwrap();
    let border = Border::new(rules());
    let here = aether::builder().url(server.url()).guard(border.clone()).connect().await.unwrap();
    let mut audit = Vibrator::create("audit", &here).await.unwrap();
    audit.resonate_on(">").await.unwrap();
    // It has no rules of its own.
    let there = aether::connect(&server.url()).await.unwrap();
    let (billing, stranger) = (there.emitter("billing").unwrap(), there.emitter("stranger").unwrap());
    stranger.emit_bytes("invoices.sent", "a stranger").await.unwrap();
    billing.emit_bytes("orders.created", "elsewhere").await.unwrap();
    billing.emit_bytes("invoices.sent", "more than 8 bytes").await.unwrap();
    // The waves of one channel may overtake the waves of another, until they have left.
    flushed(&there).await;
    billing.emit_bytes("invoices.sent", "12345678").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "12345678");
    assert_eq!((border.refused().arrived, here.status().refused_by_rules), (3, 3));
    border.change(Rules::new([Rule::new("*").emit([">"]).listen([">"])]).unwrap());
    stranger.emit_bytes("invoices.sent", "by other rules").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "by other rules");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_refuses_payloads_that_do_not_fit_their_schema_and_counts_them() {
    let server = NatsServer::start().await.unwrap();
    let border = Border::default();
    border.check_payloads(Schemas::new([("orders.>", &serde_json::json!({ "type": "integer" }))]).unwrap());
    let here = aether::builder().url(server.url()).guard(border).connect().await.unwrap();
    let mut sales = Vibrator::create("sales", &here).await.unwrap();
    sales.resonate_on("orders.>").await.unwrap();
    let there = aether::connect(&server.url()).await.unwrap();
    let shop = there.emitter("shop").unwrap();
    for payload in ["one", "\"1\"", "1"] {
        shop.emit_bytes("orders.created", payload).await.unwrap();
    }
    assert_eq!(receive(&mut sales).await.text().unwrap(), "1");
    let status = here.status();
    assert_eq!((status.refused_by_schema, status.refused_by_rules, status.refused()), (2, 0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_for_each_source_however_many_patterns_of_a_process_match() {
    let server = NatsServer::start().await.unwrap();
    let rules = [Rule::new("sensor-*").emit([">"]).max_rate(10), Rule::new("audit").listen([">"])];
    let border = Border::new(Rules::new(rules).unwrap());
    let here = aether::builder().url(server.url()).guard(border.clone()).connect().await.unwrap();
    let mut audit = Vibrator::create("audit", &here).await.unwrap();
    audit.resonate_on("rooms.*").await.unwrap();
    let mut second = Vibrator::create("audit", &here).await.unwrap();
    second.resonate_on("rooms.>").await.unwrap();
    // Neither has rules of its own.
    let there = aether::connect(&server.url()).await.unwrap();
    // Ten seconds' worth at once from each, and one wave more or less for the time that passes.
    for name in ["sensor-1", "sensor-2"] {
        let sensor = there.emitter(name).unwrap();
        for _ in 0..100 {
            sensor.emit_bytes("rooms.hall", "1").await.unwrap();
        }
    }
    for heard in [&mut audit, &mut second] {
        for _ in 0..200 {
            receive(heard).await;
        }
    }
    assert_eq!(border.refused().arrived, 0);
    let sensor = there.emitter("sensor-1").unwrap();
    for _ in 0..1000 {
        sensor.emit_bytes("rooms.hall", "2").await.unwrap();
    }
    there.emitter("sensor-3").unwrap().emit_bytes("rooms.hall", "3").await.unwrap();
    for heard in [&mut audit, &mut second] {
        let mut passed = 0;
        while receive(heard).await.text().unwrap() == "2" {
            passed += 1;
        }
        assert!(passed < 500, "{passed} of 1000 passed");
    }
    assert!(border.refused().arrived > 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_new_rules_do_not_allow_ends_at_the_server_and_can_be_made_again() {
    let server = NatsServer::start().await.unwrap();
    let border = Border::default();
    let here = aether::builder().url(server.url()).guard(border.clone()).connect().await.unwrap();
    let mut audit = Vibrator::create("audit", &here).await.unwrap();
    audit.resonate_on("orders.>").await.unwrap();
    audit.resonate_on("orders.*").await.unwrap();
    audit.resonate_on("invoices.>").await.unwrap();
    audit.resonate_in_group("orders.>", "auditors").await.unwrap();
    // The only other member of the group.
    let there = aether::connect(&server.url()).await.unwrap();
    let mut other = Vibrator::create("other", &there).await.unwrap();
    other.resonate_in_group("orders.>", "auditors").await.unwrap();
    let shop = there.emitter("shop").unwrap();

    let rules =
        |listen: &str| Rules::new([Rule::new("*").emit([">"]), Rule::new("audit").listen([listen])]).unwrap();
    border.change(rules("invoices.>"));
    assert_eq!(border.refused().revoked, 3);
    // Behind this the server has the end of the subscriptions.
    flushed(&here).await;
    for number in 0..100 {
        shop.emit_bytes("orders.created", number.to_string()).await.unwrap();
    }
    for number in 0..100 {
        assert_eq!(receive(&mut other).await.text().unwrap(), number.to_string(), "no share is lost");
    }
    shop.emit_bytes("invoices.sent", "an invoice").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "an invoice");
    let refused = audit.resonate_on("orders.>").await.unwrap_err();
    assert!(matches!(refused, JoinError::NotAllowed(_)), "{refused}");
    border.change(rules(">"));
    audit.resonate_on("orders.>").await.unwrap();
    shop.emit_bytes("orders.created", "again").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "again");
    assert_eq!(audit.ledger().queued, 0);
}
