//! Scrapes are valid for Prometheus, checked with its own tool.

use std::path::Path;
use std::process::Command;

use aether_core::{Aether, Kind, Vibrator, Wave};
use aether_gateway::GatewayOptions;

use crate::promtool_program::{check, promtool};
use crate::support;

#[tokio::test]
async fn promtool_accepts_the_prometheus_format() {
    let aether = Aether::local();
    let mut running = support::run_stopped(&aether, GatewayOptions::default()).await;
    let shop = Vibrator::create("sh\"op\\ä", &aether).await.unwrap();
    shop.resonate_on("nothing").await.unwrap();
    for kind in [Kind::Event, Kind::Command, Kind::Broadcast] {
        shop.emit(Wave::builder("orders.\"odd\\").kind(kind).text("123").build().unwrap()).await.unwrap();
    }
    running.observes(3).await;
    running.looked().await;

    for accept in ["*/*", "text/plain", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"] {
        let answer = running.accepting("GET", "/metrics", accept).await;
        assert_eq!(answer.code, 200);
        assert_eq!(answer.content_type, "text/plain; version=0.0.4; charset=utf-8", "{accept}");
        assert!(!answer.body.contains("# EOF"), "that is OpenMetrics");
        let line = "\naether_observed_waves_total{channel=\"orders.\\\"odd\\\\\",kind=\"command\"} 1\n";
        assert!(answer.body.contains(line), "{}", answer.body);
        assert!(answer.body.contains("\n# TYPE aether_observed_waves_total counter\n"), "{}", answer.body);
        check(&answer.body);
    }
    running.stop().await;
}

/// The request of Prometheus itself, and the same lines in both formats.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_gets_open_metrics_and_the_values_do_not_depend_on_the_format() {
    let aether = Aether::local();
    let mut running = support::run(&aether, GatewayOptions::default().physics(false)).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    shop.emit_bytes("a", "x").await.unwrap();
    running.observes(1).await;
    let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                  application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                  text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let open_metrics = running.accepting("GET", "/metrics", accept).await;
    assert_eq!(open_metrics.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open_metrics.body.ends_with("# EOF\n"));
    let prometheus = running.accepting("GET", "/metrics", "text/plain").await;
    let lines = |text: &str| {
        // Each scrape is a connection and takes time and memory, which are the only changing values.
        let is_value = |line: &&str| {
            !line.starts_with('#')
                && !line.contains("http_connections_total")
                && !line.starts_with("process_")
        };
        text.lines().filter(is_value).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&open_metrics.body), lines(&prometheus.body));
    running.stop().await;
}

#[test]
fn the_alert_rules_fire_on_incidents_and_not_on_findings() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "tests/suite/alerts_test.yml"]] {
        let output = Command::new(promtool()).args(args).current_dir(package).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
    }
}
