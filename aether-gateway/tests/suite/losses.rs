//! Losses of other processes: which are new, and of which place they are.

use aether_conformance::NatsServer;
use aether_gateway::GatewayOptions;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::{PATIENCE, heard, say, socket};
use crate::log::entry;
use crate::support::{self, Running};

/// A program of which only accounts are there.
struct Told {
    client: async_nats::Client,
    process: &'static str,
}

impl Told {
    /// Tells an account with these counts of its outbox.
    async fn tell(&self, uptime_ms: u64, full: u64, expired: u64) {
        let outbox = json!({ "offered": full + expired, "shed_full": full, "expired": expired });
        let account = json!({ "process": self.process, "version": "0", "uptime_ms": uptime_ms, "every_ms": 5000, "outbox": outbox });
        let text = account.to_string();
        self.client.publish("aether-ask._aether.accounts", text.into()).await.unwrap();
        self.client.flush().await.unwrap();
    }
}

/// Waits until the gateway has an account of this age from each of both, before any more time passes.
async fn has_heard(running: &Running, uptime_ms: u64) {
    let asking = async {
        loop {
            let accounts: Value = serde_json::from_str(&running.get("/api/accounts").await.body).unwrap();
            let heard =
                accounts.as_array().unwrap().iter().filter(|of| of["account"]["uptime_ms"] == uptime_ms);
            if heard.count() == 2 {
                return;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("both are heard");
}

/// The first overview that is as wanted. One is written each second.
pub(crate) async fn overview(running: &Running, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let mut client = socket(running).await;
    say(&mut client, json!({ "op": "watch", "view": "overview" })).await;
    let looking = async {
        loop {
            let view = heard(&mut client, "view").await;
            if is_wanted(&view["data"]) {
                return view["data"].clone();
            }
            running.second_passes().await;
        }
    };
    timeout(PATIENCE, looking).await.expect("an overview as wanted")
}

fn has_bucket(number: u64) -> impl Fn(&Value) -> bool {
    move |view| view["second"].as_u64().unwrap() >= 5 * number
}

/// Program, reason, waves and rate of each place.
fn places(view: &Value) -> Vec<(&str, &str, u64, f64)> {
    let places = view["losses"]["places"].as_array().unwrap().iter();
    let of =
        |place: &'_ Value| (place["waves"].as_u64().unwrap(), place["lost_per_second"].as_f64().unwrap());
    places
        .map(|place| {
            let (waves, rate) = of(place);
            (place["program"].as_str().unwrap(), place["reason"].as_str().unwrap(), waves, rate)
        })
        .collect()
}

#[tokio::test]
async fn old_losses_are_not_new_ones_and_each_place_has_the_rate_of_its_reason() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let running = support::run_stopped(&aether, GatewayOptions::default().physics(false)).await;
    let told = |process| Told { client: client.clone(), process };
    let (till, busy) = (told("till@1"), told("busy@2"));
    let has_both = |view: &Value| places(view).len() == 3;
    overview(&running, has_bucket(1)).await;

    // Both have run for a day, and are heard for the first time after the first bucket.
    till.tell(86_400_000, 0, 700).await;
    busy.tell(86_400_000, 50, 900).await;
    has_heard(&running, 86_400_000).await;
    let second = overview(&running, has_both).await["second"].as_u64().unwrap();
    // The bucket in which they were heard, and the next one.
    let view = overview(&running, has_bucket(second / 5 + 2)).await;
    assert_eq!(view["losses"]["per_second"], 0.0, "{view}");
    assert_eq!(view["losses"]["lately"], json!({}));
    assert!(places(&view).iter().all(|(.., rate)| *rate == 0.0), "{view}");
    let entries = view["log"]["entries"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["kind"] != "lost"), "{entries:?}");

    // One loses waves for one reason, the other more for another.
    till.tell(86_405_000, 30, 700).await;
    busy.tell(86_405_000, 50, 1800).await;
    has_heard(&running, 86_405_000).await;
    let lost = entry(&running, "lost", "full").await;
    assert_eq!((&lost["count"], &lost["severity"]), (&30.into(), &"critical".into()));
    assert!(lost["text"].as_str().unwrap().ends_with("most by till outbox"), "{lost}");
    let lost = entry(&running, "lost", "expired").await;
    assert!(lost["count"] == 900 && lost["text"].as_str().unwrap().ends_with("busy outbox"), "{lost}");
    let view = overview(&running, |view| places(view).len() == 4).await;
    assert_eq!(
        places(&view),
        [
            ("busy", "expired", 1800, 60.0),
            ("till", "full", 30, 2.0),
            ("till", "expired", 700, 0.0),
            ("busy", "full", 50, 0.0)
        ]
    );
    assert_eq!(view["losses"]["lately"], json!({ "expired": 60.0, "full": 2.0 }));
    assert_eq!(view["losses"]["per_second"], 62.0);
    let history: Value = serde_json::from_str(&running.get("/api/history").await.body).unwrap();
    let sum = |reason: &str| {
        let buckets = history["lost"][reason].as_array().unwrap();
        buckets.iter().map(|lost| 5.0 * lost.as_f64().unwrap()).sum::<f64>()
    };
    assert_eq!((sum("full"), sum("expired")), (30.0, 900.0), "{history}");
    running.stop().await;
}
