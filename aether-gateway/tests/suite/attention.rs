//! The headline of the first page names what somebody should look at, although nothing is lost.

use aether_conformance::NatsServer;
use aether_core::{Aether, Vibrator, Wave};
use aether_gateway::GatewayOptions;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::PATIENCE;
use crate::losses::overview;
use crate::support;

fn concerns(view: &Value) -> Vec<(&str, &str)> {
    let all = view["attention"].as_array().unwrap().iter();
    all.map(|concern| (concern["sort"].as_str().unwrap(), concern["text"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn silent_processes_open_circuits_dead_letters_refusals_and_unheard_channels_are_named() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let running = support::run_stopped(&aether, GatewayOptions::default().physics(false)).await;
    let tell = async |account: Value| {
        client.publish("aether-ask._aether.accounts", account.to_string().into()).await.unwrap();
        client.flush().await.unwrap();
        let name = account["process"].as_str().unwrap().split('@').next().unwrap();
        let is_it = |of: &Value| {
            of["process"].as_str().unwrap().starts_with(name)
                && of["account"]["uptime_ms"] == account["uptime_ms"]
        };
        // It is heard before any time passes. Nothing is expected of one that has ended.
        let mut is_heard = account["last"] == true;
        while !is_heard {
            let heard: Value = serde_json::from_str(&running.get("/api/accounts").await.body).unwrap();
            is_heard = heard.as_array().unwrap().iter().any(is_it);
        }
    };
    let quiet = overview(&running, |view| view["second"].as_u64() > Some(2)).await;
    assert_eq!(concerns(&quiet), [], "healthy");

    let pages = |refused: u64| {
        json!({ "process": "notifier@7", "version": "0", "uptime_ms": 86_400_000_u64 + refused, "every_ms": 60_000,
            "medium": { "refused_by_schema": refused },
            "letters": { "buried": 2, "kept": 2 },
            "handlers": [{ "service": "notifier", "counts": { "breakers": 1, "breakers_open": 1 } }] })
    };
    // Refusals from before the gateway was there are not news.
    tell(pages(40)).await;
    tell(json!({ "process": "ingest@8", "version": "0", "uptime_ms": 5000, "every_ms": 100 })).await;
    tell(json!({ "process": "left@9", "version": "0", "uptime_ms": 5000, "every_ms": 100, "last": true }))
        .await;
    overview(&running, |view| concerns(view).len() == 3).await;
    tell(pages(43)).await;
    let view = overview(&running, |view| concerns(view).len() == 4).await;
    let [silent, circuit, letters, refused] = &concerns(&view)[..] else { panic!("{view}") };
    assert!(silent.0 == "silent" && silent.1.starts_with("ingest is silent for "), "{silent:?}");
    assert_eq!(
        circuit.1,
        "a circuit of notifier is open: what it calls fails, and its waves are not handled"
    );
    assert_eq!(letters.1, "2 dead letters wait in notifier");
    let text = "notifier refused 3 waves that do not fit the schema of their channel, the last ";
    assert!(refused.1.starts_with(text), "{refused:?}");

    // A process that begins after the silent one replaces it.
    tell(json!({ "process": "ingest@10", "version": "0", "uptime_ms": 10, "every_ms": 60_000 })).await;
    overview(&running, |view| concerns(view).iter().all(|(sort, _)| *sort != "silent")).await;
    running.stop().await;
}

#[tokio::test]
async fn a_channel_that_has_lost_its_last_receiver_is_named_until_there_is_one() {
    let aether = Aether::local();
    let running = support::run_stopped(&aether, GatewayOptions::default().physics(false)).await;
    let sensor = Vibrator::create("sensor", &aether).await.unwrap();
    let tune = async |name| {
        let vibrator = Vibrator::create(name, &aether).await.unwrap();
        vibrator.resonate_on("telemetry.>").await.unwrap();
        vibrator
    };
    let (first, last) = (tune("ingest").await, tune("pager").await);
    let measure = async || {
        for channel in ["telemetry.in", "never.heard"] {
            sensor.emit(Wave::from_bytes(channel, "1").unwrap()).await.unwrap();
        }
        let body = running.get("/api/overview").await.body;
        running.second_passes().await;
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let second = |view: &Value| view["second"].as_u64().unwrap();
    let first_view = measure().await;
    drop(first);
    let testing = async {
        loop {
            let view = measure().await;
            assert_eq!(concerns(&view), [], "another one hears it");
            if second(&view) > second(&first_view) + 15 {
                break;
            }
        }
        drop(last);
        let expected = "nobody hears telemetry.in any more: its last receiver, pager, has left";
        while concerns(&measure().await) != [("unheard", expected)] {}
        let _third = tune("other").await;
        while !concerns(&measure().await).is_empty() {}
    };
    timeout(10 * PATIENCE, testing).await.expect("it is named, and then no more");
    running.stop().await;
}
