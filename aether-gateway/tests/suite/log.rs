//! `/api/log`: what the gateway has to say.

use aether_conformance::NatsServer;
use aether_core::{Aether, InboxOptions, Vibrator, WhenFull};
use aether_gateway::{Access, FieldOptions, GatewayOptions};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::{PATIENCE, heard, request, say, socket};
use crate::support::{self, Running};

/// The first entry that is of this kind and about this, once it is there. A view is written each second.
pub(crate) async fn entry(running: &Running, kind: &str, about: &str) -> Value {
    let mut client = socket(running).await;
    // For a gateway that needs one; another does not mind.
    say(&mut client, json!({ "op": "token", "token": "s3cret" })).await;
    say(&mut client, json!({ "op": "watch", "view": "overview" })).await;
    let found = async {
        loop {
            let view = heard(&mut client, "view").await;
            let entries = view["data"]["log"]["entries"].as_array().unwrap().clone();
            let is_wanted = |entry: &Value| entry["kind"] == kind && entry["about"] == about;
            if let Some(entry) = entries.into_iter().find(is_wanted) {
                return entry;
            }
            running.second_passes().await;
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {kind} about {about}"))
}

#[tokio::test]
async fn refused_requests_and_lost_waves_are_in_the_log() {
    let aether = Aether::local();
    let access = Access::default().waves_token("s3cret").unwrap();
    let options = GatewayOptions::default().fields(FieldOptions::default().access(access));
    let running = support::run_stopped(&aether, options).await;
    for _ in 0..3 {
        assert_eq!(request(&running, "POST /waves/a HTTP/1.1", "").await.0, 401);
    }
    let refused = entry(&running, "refused", "no_token").await;
    assert_eq!((&refused["count"], &refused["severity"]), (&3.into(), &"warning".into()));

    let small = InboxOptions::interactive().max_waves(1).when_full(WhenFull::Shed);
    let till = Vibrator::builder("till").inbox(small).create(&aether).await.unwrap();
    till.resonate_on("orders.*").await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for n in 0..10 {
        shop.emit_wave("orders.created", &n).await.unwrap();
    }
    let lost = entry(&running, "lost", "full").await;
    assert_eq!(lost["count"], 9, "{lost}");
    let head = "GET /api/log?last=1 HTTP/1.1\r\nauthorization: Bearer s3cret";
    let body: Value = serde_json::from_str(&request(&running, head, "").await.1).unwrap();
    assert_eq!(body["entries"].as_array().unwrap().len(), 1);
    assert_eq!(body["entries"][0]["kind"], "lost", "the newest first");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_and_regained_is_in_the_log() {
    let mut server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let running = support::run(&aether, GatewayOptions::default()).await;
    server.kill().await.unwrap();
    let lost = entry(&running, "connection", "not_connected").await;
    assert_eq!(lost["severity"], "critical");
    server.restart().await.unwrap();
    let back = entry(&running, "connection", "ready").await;
    assert!(back["number"].as_u64() > lost["number"].as_u64());
    running.stop().await;
}
