//! The losses of other processes, on the page, in the JSON and in the metrics, over a real NATS server.

use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, InboxOptions, Vibrator, WhenFull};
use aether_gateway::GatewayOptions;
use serde_json::Value;

use crate::support::{self, Metrics, Running};

/// A bound for what takes a second on an idle machine. No test waits for it to elapse.
const PATIENCE: Duration = Duration::from_secs(120);

/// Another process, in which a receiver sheds all but two of ten waves.
pub(crate) async fn store(server: &NatsServer) -> (Aether, Vibrator) {
    // A process is silent after three of these and a second, which a busy machine must not take for anything.
    let every = Some(Duration::from_secs(1));
    let builder = aether::builder().url(server.url()).program("store \"quoted\"").account_every(every);
    let aether = builder.connect().await.unwrap();
    let inbox = InboxOptions::overload().max_waves(2).when_full(WhenFull::Shed).sojourn_cap(None);
    let stock = Vibrator::builder("stock").inbox(inbox).create(&aether).await.unwrap();
    stock.resonate_on("orders.*").await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for _ in 0..10 {
        shop.emit_bytes("orders.created", "x").await.unwrap();
    }
    aether.flush().await.unwrap();
    (aether, stock)
}

/// Asks until the status is as wanted. Each answer takes a round trip, and accounts arrive meanwhile.
pub(crate) async fn status(running: &Running, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let status: Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
            if is_wanted(&status["accounts"]) {
                return status["accounts"].clone();
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the status is as wanted")
}

pub(crate) fn line<'a>(accounts: &'a Value, list: &str) -> Option<&'a Value> {
    let name = |line: &Value| line["program"].as_str().or(line["process"].as_str()).map(str::to_owned);
    let is_store = |line: &&Value| name(line).is_some_and(|name| name.starts_with("store \"quoted\""));
    accounts[list].as_array().unwrap().iter().find(is_store)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_shows_what_it_lost_and_why_also_after_it_has_gone() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let (elsewhere, _stock) = store(&server).await;
    let shed =
        |accounts: &Value| line(accounts, "programs").map(|line| line["inboxes"]["shed"]["full"].clone());
    let is_present =
        |accounts: &Value| line(accounts, "processes").is_some_and(|line| line["standing"] == "present");
    let is_told = |accounts: &Value| shed(accounts) == Some(8.into()) && is_present(accounts);
    let accounts = status(&running, is_told).await;
    let program = line(&accounts, "programs").unwrap();
    assert_eq!((&program["present"], &program["inboxes"]["queued"]), (&1.into(), &2.into()));
    assert_eq!(program["outbox"]["offered"], 10);
    assert_eq!(line(&accounts, "processes").unwrap()["standing"], "present");

    let all: Value = serde_json::from_str(&running.get("/api/accounts").await.body).unwrap();
    let whole =
        all.as_array().unwrap().iter().find(|it| it["process"].as_str().unwrap().starts_with("store"));
    let inboxes = whole.unwrap()["account"]["inboxes"].as_array().unwrap();
    let stock = inboxes.iter().find(|inbox| inbox["vibrator"] == "stock").unwrap();
    assert_eq!((&stock["ledger"]["shed_full"], &stock["open"]), (&8.into(), &1.into()));

    let of_store = ("program", "store \"quoted\"");
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_process_offered_waves_total", &[of_store]), 10.0);
    assert_eq!(metrics.value("aether_process_shed_waves_total", &[of_store, ("reason", "full")]), 8.0);
    assert_eq!(metrics.value("aether_processes", &[of_store, ("standing", "present")]), 1.0);
    assert_eq!(metrics.value("aether_accounts_suspicious_total", &[("reason", "does_not_add_up")]), 0.0);
    let page = running.get("/status").await.body;
    assert!(page.contains("store &#34;quoted&#34;") && page.contains("8 full"), "{page}");

    elsewhere.close().await.unwrap();
    let is_ended =
        |accounts: &Value| line(accounts, "processes").is_some_and(|line| line["standing"] == "ended");
    let accounts = status(&running, is_ended).await;
    let program = line(&accounts, "programs").unwrap();
    assert_eq!((&program["ended"], &program["inboxes"]["shed"]["full"]), (&1.into(), &8.into()));
    assert_eq!((&program["inboxes"]["queued"], &program["unsettled"]), (&0.into(), &2.into()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_does_not_add_up_is_counted_with_its_reason() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let stranger = async_nats::connect(server.url()).await.unwrap();
    let text = r#"{"process":"forged@1","version":"0","uptime_ms":1,"every_ms":1,"outbox":{"offered":1}}"#;
    stranger.publish("aether-ask._aether.accounts", text.into()).await.unwrap();
    stranger.flush().await.unwrap();
    let accounts = status(&running, |accounts| accounts["suspicious"]["does_not_add_up"] == 1).await;
    assert_eq!(line(&accounts, "processes"), None);
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_accounts_suspicious_total", &[("reason", "does_not_add_up")]), 1.0);
    assert!(running.get("/status").await.body.contains("1 does_not_add_up"));
    running.stop().await;
}
