//! The findings of the physics are on the page, in the JSON, in the metrics and in the maps.

use aether_conformance::NatsServer;
use aether_core::{Aether, Vibrator, Wave};
use aether_gateway::{GatewayOptions, NotedIncident};

use crate::support::{self, Metrics};

/// `times` orders, each paid because it was created, by a source with a hostile name.
async fn trade(aether: &Aether, times: usize) {
    let shop = Vibrator::create("<b>shop</b>", aether).await.unwrap();
    for _ in 0..times {
        let created = shop.emit(Wave::from_bytes("orders.<i&", "").unwrap()).await.unwrap();
        let paid = Wave::builder("orders.paid").cause(shop.id_of(&created)).build().unwrap();
        shop.emit(paid).await.unwrap();
    }
}

#[tokio::test]
async fn related_channels_are_shown_everywhere() {
    let aether = Aether::local();
    let running = support::run_stopped(&aether, GatewayOptions::default()).await;
    trade(&aether, 50).await;
    // The first report may be from before the last wave.
    running.looked().await;
    running.looked().await;

    let dot = running.get("/map.dot").await;
    assert_eq!((dot.code, dot.content_type.as_str()), (200, "text/vnd.graphviz; charset=utf-8"));
    assert!(dot.body.starts_with("digraph resonance {") && dot.body.contains("orders.paid"), "{dot:?}");
    let mermaid = running.get("/map.mmd").await;
    assert_eq!((mermaid.code, mermaid.body.starts_with("flowchart LR")), (200, true), "{mermaid:?}");

    let page = running.get("/status").await.body;
    assert!(page.contains("Related channels") && page.contains("<td class=\"text\">orders.paid</td>"));
    assert!(!page.contains("<i&") && !page.contains("<b>shop"), "{page}");
    assert!(page.contains("Recent findings") && page.contains("1 pairs"), "{page}");

    let status: serde_json::Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
    let physics = &status["physics"];
    let edge = &physics["map"]["edges"][0];
    assert_eq!((&edge["from"], &edge["to"]), (&"orders.<i&".into(), &"orders.paid".into()));
    assert_eq!((&edge["waves"], &edge["tier"]), (&50.into(), &"L0".into()));
    assert_eq!((&edge["confidence"], edge["waves_a_second"].as_f64().unwrap() > 0.0), (&1.0.into(), true));
    let (first, last) = (&edge["first_seen_seconds_ago"], &edge["last_seen_seconds_ago"]);
    assert!(first.as_f64().unwrap() >= last.as_f64().unwrap(), "{edge}");
    assert_eq!((&physics["findings_by_sort"]["related"], &physics["looked"]), (&1.into(), &1.0.into()));
    let findings = physics["findings"].as_array().unwrap();
    let related = findings.iter().find(|finding| finding["sort"] == "related").unwrap();
    assert!(related["text"].as_str().unwrap().starts_with("related: orders.<i& -> orders.paid after "));
    assert!(related["seconds_ago"].as_f64().unwrap() >= 0.0);

    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_findings_total", &[("sort", "related")]), 1.0);
    assert_eq!(metrics.value("aether_related_channels", &[]), 1.0);
    assert_eq!(metrics.value("aether_physics_looked_ratio", &[]), 1.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_physics_shows_that_and_has_no_second_observer() {
    let aether = Aether::local();
    let mut running = support::run(&aether, GatewayOptions::default().physics(false)).await;
    assert!(running.insight.is_none());
    trade(&aether, 1).await;
    running.observes(2).await;
    let map = running.get("/map.mmd").await;
    assert_eq!((map.code, map.body.starts_with("no map: physics is switched off")), (404, true), "{map:?}");
    let status: serde_json::Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
    assert!(status["physics"].is_null() && status["all_inboxes"]["offered"] == 2, "{status}");
    assert!(!running.get("/status").await.body.contains("Related channels"));
    assert!(!running.get("/metrics").await.body.contains("aether_findings"));
    running.stop().await;
}

/// Waits until the gateway has noted an incident that fulfils a condition.
async fn incident(running: &support::Running, is_it: impl Fn(&NotedIncident) -> bool) -> NotedIncident {
    let insight = running.insight.as_ref().unwrap();
    let noted = async {
        loop {
            if let Some(noted) = insight.incidents().into_iter().find(&is_it) {
                return noted;
            }
            running.looked().await;
        }
    };
    noted.await
}

#[tokio::test]
async fn an_incident_is_shown_everywhere_while_it_lasts_and_afterwards() {
    let mut server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut running = support::run_stopped(&aether, GatewayOptions::default()).await;
    let page = running.get("/status").await.body;
    assert!(page.contains("<h2>Incidents</h2>") && page.contains("None."), "{page}");
    trade(&aether, 10).await;
    running.observes(20).await;

    server.kill().await.unwrap();
    let noted = incident(&running, |_| true).await.incident;
    assert_eq!(
        (noted.cause.as_str(), noted.severity.as_str(), noted.until),
        ("disconnected", "critical", None)
    );
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_incidents_open", &[("severity", "critical")]), 1.0);
    assert_eq!(metrics.value("aether_incidents_open", &[("severity", "warning")]), 0.0);
    assert_eq!(metrics.value("aether_incidents_total", &[("cause", "disconnected")]), 1.0);
    let page = running.get("/status").await.body;
    assert!(
        page.contains("<b>critical</b>") && page.contains("the observer has no connection for "),
        "{page}"
    );
    let status: serde_json::Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
    let shown = &status["physics"]["incidents"][0];
    assert_eq!((&shown["is_open"], &shown["cause"]), (&true.into(), &"disconnected".into()));
    assert!(shown["seconds"].as_f64().unwrap() >= 2.0, "{shown}");

    server.restart().await.unwrap();
    let noted = incident(&running, |noted| noted.incident.until.is_some()).await.incident;
    assert!(noted.to_string().starts_with("ended: the observer had no connection for "), "{noted}");
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_incidents_open", &[("severity", "critical")]), 0.0);
    assert_eq!(metrics.value("aether_incidents_total", &[("cause", "disconnected")]), 1.0);
    assert!(running.get("/status").await.body.contains("ended: the observer had no connection for "));
    running.stop().await;
}
