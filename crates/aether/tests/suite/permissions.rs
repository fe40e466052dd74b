//! The permissions of a real server that match boundary rules: what the rules forbid the server refuses, too.

use std::time::Duration;

use aether::nats::NatsClient;
use aether::nats::NatsOptions;
use aether::nats::NatsPermissions;
use aether::rules::{Border, Rule, Rules};
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, AskError, EmitError, JoinError, Vibrator, Wave};
use async_nats::{Event, HeaderMap, HeaderValue};
use futures::StreamExt as _;
use tokio::sync::mpsc;

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
        Rule::new("shop").emit(["orders.>"]).deny_emit(["orders.secret.>"]),
        Rule::new("vault").emit(["orders.secret.>"]),
        Rule::new("clerk").listen(["orders.>"]).deny_listen(["orders.secret.>"]),
        Rule::new("spy").listen(["public.>"]),
    ])
    .unwrap()
}

/// A server whose users have the permissions of their names. The passwords are the names.
async fn server() -> NatsServer {
    let rules = rules();
    let users: Vec<_> = ["billing", "audit", "shop", "vault", "clerk", "spy"]
        .map(|name| {
            let permissions = NatsPermissions::new(&rules, name, "aether");
            format!("{{ user: {name}, password: {name}, permissions: {{\n{permissions}}} }}")
        })
        .into();
    let users = format!("{{ users: [{}] }}", users.join(", "));
    NatsServer::start_with(ServerOptions::default().setting("authorization", users)).await.unwrap()
}

fn url(server: &NatsServer, user: &str) -> String {
    server.url().replace("nats://", &format!("nats://{user}:{user}@"))
}

/// Without rules in the process: the server is all that refuses.
async fn connect(server: &NatsServer, user: &str) -> Aether {
    aether::connect(&url(server, user)).await.unwrap()
}

async fn hearing(aether: &Aether, name: &str, pattern: &str) -> Vibrator {
    let vibrator = Vibrator::create(name, aether).await.unwrap();
    vibrator.resonate_on(pattern).await.unwrap();
    vibrator
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_the_matching_permissions_refuses_what_the_rules_refuse() {
    let server = server().await;
    let (audited, billed) = (connect(&server, "audit").await, connect(&server, "billing").await);
    let sold = connect(&server, "shop").await;
    let mut audit = hearing(&audited, "audit", ">").await;
    let mut billing = hearing(&billed, "billing", "orders.>").await;
    let shop = sold.emitter("shop").unwrap();

    shop.emit_bytes("orders.secret.one", "denied").await.unwrap();
    billing.emit_bytes("orders.created", "forbidden").await.unwrap();
    shop.emit_bytes("invoices.sent", "forbidden").await.unwrap();
    flushed(&billed).await;
    flushed(&sold).await;
    billing.emit_bytes("invoices.sent", "allowed").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "allowed");
    shop.emit_bytes("orders.created", "an order").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "an order");
    assert_eq!(receive(&mut billing).await.text().unwrap(), "an order");

    // With rules the process refuses at once what the server refuses.
    let builder = aether::builder().url(url(&server, "billing"));
    let ruled = builder.guard(Border::new(rules())).connect().await.unwrap();
    let billing = Vibrator::create("billing", &ruled).await.unwrap();
    let refused = billing.emit_bytes("orders.created", "1").await.unwrap_err();
    assert!(matches!(refused, EmitError::NotAllowed { .. }), "{refused:?}");
    let refused = billing.resonate_on("invoices.>").await.unwrap_err();
    assert!(matches!(refused, JoinError::NotAllowed(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_delivers_nothing_that_the_rules_do_not_let_a_user_hear() {
    let server = server().await;
    let (audited, billed) = (connect(&server, "audit").await, connect(&server, "billing").await);
    let (clerked, vaulted) = (connect(&server, "clerk").await, connect(&server, "vault").await);
    let sold = connect(&server, "shop").await;
    let mut audit = hearing(&audited, "audit", ">").await;
    let mut billing = hearing(&billed, "billing", "orders.>").await;
    // No grant covers it.
    let refused = billing.resonate_on("invoices.>").await.unwrap_err();
    assert!(matches!(refused, JoinError::NotPermitted { .. }), "{refused:?}");
    // A rule denies a part of it.
    let mut clerk = hearing(&clerked, "clerk", "orders.>").await;

    billed.emitter("billing").unwrap().emit_bytes("invoices.sent", "an invoice").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "an invoice");
    vaulted.emitter("vault").unwrap().emit_bytes("orders.secret.one", "a secret").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "a secret");
    assert_eq!(receive(&mut billing).await.text().unwrap(), "a secret");
    sold.emitter("shop").unwrap().emit_bytes("orders.created", "an order").await.unwrap();
    assert_eq!(receive(&mut billing).await.text().unwrap(), "an order");
    assert_eq!(receive(&mut clerk).await.text().unwrap(), "an order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_the_rules_forbid_reaches_nobody_and_one_that_they_allow_is_answered() {
    let server = server().await;
    let (audited, billed, sold) =
        (connect(&server, "audit").await, connect(&server, "billing").await, connect(&server, "shop").await);
    let mut audit = hearing(&audited, "audit", ">").await;
    let mut billing = hearing(&billed, "billing", "orders.>").await;
    let shop = sold.emitter("shop").unwrap();
    let question = |channel: &str| Wave::from_bytes(channel, "how many?").unwrap();
    for forbidden in ["invoices.count", "orders.secret.count"] {
        let error = shop.ask_within(question(forbidden), PATIENCE).await.unwrap_err();
        assert!(
            matches!(&error, AskError::NotPermitted { channel, .. } if channel.as_str() == forbidden),
            "{error:?}"
        );
    }
    let asking = tokio::spawn(async move { shop.ask_within(question("orders.count"), PATIENCE).await });
    let asked = receive(&mut billing).await;
    assert_eq!(asked.channel().as_str(), "orders.count");
    assert_eq!(receive(&mut audit).await.channel().as_str(), "orders.count");
    asked.reply(&17).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().text().unwrap(), "17");
}

/// A client of no program of Aether, and what the server refuses to it.
async fn intruder(server: &NatsServer, user: &str) -> (NatsClient, mpsc::UnboundedReceiver<String>) {
    let (refused, refusals) = mpsc::unbounded_channel();
    let on_event = move |event| {
        if let Event::ServerError(error) = event {
            let _ = refused.send(error.to_string());
        }
        std::future::ready(())
    };
    let servers = [url(server, user).parse().unwrap()];
    let client = NatsOptions::default().connect_client(&servers, |options| options, on_event).await;
    (client.unwrap(), refusals)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_others_are_neither_read_nor_forged() {
    let server = server().await;
    let (audited, sold) = (connect(&server, "audit").await, connect(&server, "shop").await);
    let mut audit = hearing(&audited, "audit", "orders.>").await;
    let (witness, _) = intruder(&server, "audit").await;
    let mut questions = witness.subscribe("aether-ask.orders.>").await.unwrap();
    witness.flush().await.unwrap();
    let (spy, mut refusals) = intruder(&server, "spy").await;
    let mut refusal = async || {
        let refusal = tokio::time::timeout(PATIENCE, refusals.recv()).await;
        refusal.expect("a refusal in time").unwrap()
    };
    for inbox in ["_INBOX.>", "_INBOX.shop.>", "_INBOX.*.>"] {
        let _heard = spy.subscribe(inbox).await.unwrap();
        let refused = refusal().await;
        assert!(refused.contains("Subscription") && refused.contains(inbox), "{refused}");
    }
    let shop = sold.emitter("shop").unwrap();
    let question = Wave::from_bytes("orders.count", "how many?").unwrap();
    let asking = tokio::spawn(async move { shop.ask_within(question, PATIENCE).await });
    let reply = questions.next().await.unwrap().reply.unwrap();
    assert!(reply.starts_with("_INBOX.shop."), "{reply}");
    // A forged answer, and a notice that nobody listens.
    spy.publish(reply.clone(), "1000".into()).await.unwrap();
    let mut status = HeaderMap::new();
    status.insert("Status", HeaderValue::from(503));
    spy.publish_with_headers(reply, status, "".into()).await.unwrap();
    for _ in 0..2 {
        let refused = refusal().await;
        assert!(refused.contains("Publish") && refused.contains("_INBOX.shop."), "{refused}");
    }
    let asked = receive(&mut audit).await;
    asked.reply(&17).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().text().unwrap(), "17");
}

/// An asker chooses where the answer goes, and the server lets a program answer to any subject.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_a_program_with_more_rights_emit_by_asking_it() {
    let server = server().await;
    let (audited, billed, sold) =
        (connect(&server, "audit").await, connect(&server, "billing").await, connect(&server, "shop").await);
    let mut audit = hearing(&audited, "audit", "invoices.>").await;
    let mut billing = hearing(&billed, "billing", "orders.>").await;
    let (mallory, _) = intruder(&server, "shop").await;
    for reply in ["aether.invoices.sent", "aether-ask.invoices.sent", "$JS.API.STREAM.DELETE.orders"] {
        mallory.publish_with_reply("aether-ask.orders.count", reply, "how many?".into()).await.unwrap();
        mallory.publish_with_reply("aether.orders.count", reply, "a wave".into()).await.unwrap();
    }
    mallory.flush().await.unwrap();
    let shop = sold.emitter("shop").unwrap();
    let question = Wave::from_bytes("orders.count", "honest").unwrap();
    let asking = tokio::spawn(async move { shop.ask_within(question, PATIENCE).await });
    let mut heard = Vec::new();
    // Waves and questions have no order between them.
    for _ in 0..4 {
        let wave = receive(&mut billing).await;
        heard.push(wave.text().unwrap().to_owned());
        let _ = wave.reply(&17).await;
    }
    heard.sort_unstable();
    assert_eq!(heard, ["a wave", "a wave", "a wave", "honest"], "no question of the intruder arrives");
    assert_eq!(asking.await.unwrap().unwrap().text().unwrap(), "17");
    billing.emit_bytes("invoices.sent", "allowed").await.unwrap();
    assert_eq!(receive(&mut audit).await.text().unwrap(), "allowed");
    assert_eq!(billed.status().malformed, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_two_accounts_hear_nothing_of_each_other() {
    let accounts =
        "{ north: { users: [{ user: n, password: n }] }, south: { users: [{ user: s, password: s }] } }";
    let server =
        NatsServer::start_with(ServerOptions::default().setting("accounts", accounts)).await.unwrap();
    let (north, south) = (connect(&server, "n").await, connect(&server, "s").await);
    let (mut in_north, mut in_south) =
        (hearing(&north, "audit", ">").await, hearing(&south, "audit", ">").await);
    south.emitter("shop").unwrap().emit_bytes("orders.created", "of the south").await.unwrap();
    assert_eq!(receive(&mut in_south).await.text().unwrap(), "of the south");
    north.emitter("shop").unwrap().emit_bytes("orders.created", "of the north").await.unwrap();
    assert_eq!(receive(&mut in_north).await.text().unwrap(), "of the north");
    assert_eq!((in_north.ledger().offered, in_south.ledger().offered), (1, 1));
}
