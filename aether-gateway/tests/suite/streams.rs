//! `/api/durable`: logs in JetStream, on a real server.

use aether::nats::NatsOptions;
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability};
use aether_gateway::GatewayOptions;
use aether_log::{ConsumerOptions, JetStreamLog};
use serde_json::Value;

use crate::durable::{hearers, read};
use crate::support::{self, Metrics, Running};

fn options(url: &str) -> GatewayOptions {
    GatewayOptions::default().physics(false).jetstream(url, NatsOptions::default())
}

async fn watching(url: &str) -> Running {
    support::run(&Aether::local(), options(url)).await
}

/// A log with twenty waves of which a consumer has acknowledged three.
async fn shop(url: &str) -> (JetStreamLog, Aether) {
    let log = JetStreamLog::builder(url, "shop").channels("orders.>", Durability::Stored).unwrap();
    let log = log.open().await.unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    for number in 0..20 {
        shop.emit_wave("orders.created", &number).await.unwrap();
    }
    let small = ConsumerOptions::default().window(4.try_into().unwrap());
    let billing = log.consumer("billing", "orders.>", small).unwrap();
    for _ in 0..3 {
        billing.receive().await.unwrap().ack().await.unwrap();
    }
    (log, aether)
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_in_jetstream_are_in_the_answer_and_in_the_metrics() {
    let streams = tempfile::tempdir().unwrap();
    let server = NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap();
    let (_log, aether) = shop(&server.url()).await;
    let running = watching(&server.url()).await;
    let body = read(&running).await;
    let jetstream = &body["jetstream"];
    assert_eq!((&jetstream["is_observed"], &jetstream["reason"]), (&true.into(), &Value::Null), "{body}");
    assert_eq!((&jetstream["url"], &jetstream["more_logs"]), (&server.url().into(), &0.into()));
    assert!(jetstream["unix_ms"].is_u64());
    let [log] = body["logs"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!((&log["store"], &log["folder"]), (&"jetstream".into(), &Value::Null));
    assert_eq!((&log["name"], &log["held"]["last"]), (&"shop".into(), &20.into()));
    assert_eq!((&log["held"]["replicas"], &log["held"]["dead_letters"]), (&1.into(), &0.into()));
    let billing = &log["consumers"][0];
    assert_eq!((&billing["name"], &billing["standing"]["pattern"]), (&"billing".into(), &"orders.>".into()));
    let standing = &billing["standing"];
    assert_eq!((&standing["lag"], &standing["is_exact"]), (&17.into(), &true.into()), "{standing}");
    assert_eq!((&standing["position"], &standing["redelivered"]), (&3.into(), &0.into()), "{standing}");
    assert!(standing["in_flight"].as_u64().unwrap() <= 4, "{standing}");
    assert!(standing["delivered"].as_u64().unwrap() >= 3, "{standing}");

    // One reading is for all who ask at that time.
    let (one, two) = tokio::join!(read(&running), read(&running));
    let at = |body: &Value| body["jetstream"]["unix_ms"].as_u64().unwrap();
    // It may become too old between the two; the next one comes a second later at the soonest.
    let apart = at(&one).abs_diff(at(&two));
    assert!(apart == 0 || apart > 900, "{apart} ms");

    let metrics = Metrics::read(&running.get("/metrics").await.body);
    let of_log = [("store", "jetstream"), ("log", "shop")];
    let of_billing = [of_log[0], of_log[1], ("consumer", "billing")];
    assert_eq!(metrics.value("aether_durable_lag_waves", &of_billing), 17.0);
    assert_eq!(metrics.value("aether_durable_redelivered_waves", &of_billing), 0.0);
    assert_eq!(metrics.value("aether_durable_readable", &of_log), 1.0);
    assert_eq!(metrics.value("aether_durable_jetstream_readable", &[]), 1.0);
    assert!(metrics.value("aether_durable_log_bytes", &of_log) > 500.0);

    // Of who hears what, the map has the consumer.
    let mut on_its_bus = support::run(&aether, options(&server.url())).await;
    aether.emitter("shop").unwrap().emit_wave("orders.created", &20).await.unwrap();
    on_its_bus.observes(1).await;
    read(&on_its_bus).await;
    assert_eq!(
        hearers(&on_its_bus).await,
        [("billing".to_owned(), "orders.created".to_owned(), "shop".into())]
    );
    on_its_bus.stop().await;

    // The gateway reads twenty waves at once.
    let shop = aether.emitter("shop").unwrap();
    for number in 21..25 {
        shop.emit_wave("orders.created", &number).await.unwrap();
    }
    let shown = running.get("/api/durable/consumer?log=shop&consumer=billing").await;
    let shown: Value = serde_json::from_str(&shown.body).unwrap();
    let positions: Vec<_> =
        shown["waves"].as_array().unwrap().iter().map(|wave| wave["position"].as_u64().unwrap()).collect();
    assert_eq!((positions, &shown["more"]), ((4..24).collect(), &true.into()));
    let again = running.request("POST", "/api/durable/consumer/replay?log=shop&consumer=billing").await;
    let again: Value = serde_json::from_str(&again.body).unwrap();
    assert_eq!((&again["waves"], &again["more"]), (&22.into(), &false.into()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_a_refusal_and_a_server_that_is_away_are_one_sentence_each() {
    let mut plain = NatsServer::start().await.unwrap();
    let streams = tempfile::tempdir().unwrap();
    let refusing = ServerOptions::default().jetstream(streams.path()).setting(
        "authorization",
        "{users: [{user: u, password: s3cret, permissions: {publish: {deny: [\"$JS.API.>\"]}}}]}",
    );
    let refusing = NatsServer::start_with(refusing).await.unwrap();
    let of_refusing = format!("nats://u:s3cret@127.0.0.1:{}", refusing.port());
    let url = plain.url();
    let says = async |url: &str, part: &str| {
        let running = watching(url).await;
        let body = read(&running).await;
        assert!(!body.to_string().contains("s3cret"), "{body}");
        assert_eq!(
            (&body["jetstream"]["is_observed"], &body["logs"]),
            (&false.into(), &Value::Array(vec![]))
        );
        let reason = body["jetstream"]["reason"].as_str().unwrap();
        assert!(reason.contains(part), "{reason}");
        let metrics = Metrics::read(&running.get("/metrics").await.body);
        assert_eq!(metrics.value("aether_durable_jetstream_readable", &[]), 0.0);
        running.stop().await;
    };
    says(&url, "start nats-server with --jetstream").await;
    says(&of_refusing, "may not use the subject $JS.API.STREAM.NAMES").await;
    plain.kill().await.unwrap();
    says(&url, "cannot connect to").await;
}
