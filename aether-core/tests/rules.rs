//! Boundary rules over a real server: what a receiver refuses, and the permissions that match the rules.

#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::Duration;

use aether_core::conformance::{NatsServer, ServerOptions};
use aether_core::rules::{Border, NatsPermissions, Rule, Rules, Schemas};
use aether_core::{Aether, EmitError, JoinError, Vibrator, Wave};

async fn receive(vibrator: &mut Vibrator) -> Wave {
    let received = tokio::time::timeout(Duration::from_secs(20), vibrator.receive()).await;
    received.expect("a wave within 20 s").unwrap()
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
    let here = Aether::builder().url(server.url()).border(border.clone()).connect().await.unwrap();
    let mut audit = Vibrator::create("audit", &here).await.unwrap();
    audit.resonate_on(">").await.unwrap();
    // It has no rules of its own.
    let there = Aether::connect(&server.url()).await.unwrap();
    let (billing, stranger) = (there.emitter("billing").unwrap(), there.emitter("stranger").unwrap());
    stranger.emit_bytes("invoices.sent", "a stranger").await.unwrap();
    billing.emit_bytes("orders.created", "elsewhere").await.unwrap();
    billing.emit_bytes("invoices.sent", "more than 8 bytes").await.unwrap();
    // The waves of one channel may overtake those of another, until they have left.
    there.flush().await.unwrap();
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
    let here = Aether::builder().url(server.url()).border(border).connect().await.unwrap();
    let mut sales = Vibrator::create("sales", &here).await.unwrap();
    sales.resonate_on("orders.>").await.unwrap();
    let there = Aether::connect(&server.url()).await.unwrap();
    let shop = there.emitter("shop").unwrap();
    for payload in ["one", "\"1\"", "1"] {
        shop.emit_bytes("orders.created", payload).await.unwrap();
    }
    assert_eq!(receive(&mut sales).await.text().unwrap(), "1");
    let status = here.status();
    assert_eq!((status.refused_by_schema, status.refused_by_rules, status.refused()), (2, 0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_the_matching_permissions_refuses_what_the_rules_refuse() {
    let rules = rules();
    let users: Vec<_> = ["billing", "audit", "shop"]
        .map(|name| {
            let permissions = NatsPermissions::new(&rules, name, "aether");
            format!("{{ user: {name}, password: {name}, permissions: {{\n{permissions}}} }}")
        })
        .into();
    let users = format!("{{ users: [{}] }}", users.join(", "));
    let server =
        NatsServer::start_with(ServerOptions::default().setting("authorization", users)).await.unwrap();
    let url = |user: &str| server.url().replace("nats://", &format!("nats://{user}:{user}@"));
    let connect = async |user: &str| Aether::connect(&url(user)).await.unwrap();
    let (audited, billed, sold) = (connect("audit").await, connect("billing").await, connect("shop").await);
    let mut audit = Vibrator::create("audit", &audited).await.unwrap();
    audit.resonate_on(">").await.unwrap();
    let mut billing = Vibrator::create("billing", &billed).await.unwrap();
    billing.resonate_on("orders.>").await.unwrap();
    let shop = sold.emitter("shop").unwrap();

    // Without rules in the process the server is all that refuses.
    billing.emit_bytes("orders.created", "forbidden").await.unwrap();
    shop.emit_bytes("invoices.sent", "forbidden").await.unwrap();
    billed.flush().await.unwrap();
    sold.flush().await.unwrap();
    billing.emit_bytes("invoices.sent", "allowed").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "allowed");
    shop.emit_bytes("orders.created", "an order").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "an order");
    assert_eq!(receive(&mut billing).await.text().unwrap(), "an order");

    // With rules the process says at once what the server refuses.
    let ruled = Aether::builder().url(url("billing")).border(Border::new(rules)).connect().await.unwrap();
    let billing = Vibrator::create("billing", &ruled).await.unwrap();
    let refused = billing.emit_bytes("orders.created", "1").await.unwrap_err();
    assert!(matches!(refused, EmitError::NotAllowed { .. }), "{refused:?}");
    let refused = billing.resonate_on("invoices.>").await.unwrap_err();
    assert!(matches!(refused, JoinError::NotAllowed(_)), "{refused:?}");
}
