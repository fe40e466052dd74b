//! Scrapes are valid for Prometheus, checked with its own tool.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aether_core::{Aether, Kind, Vibrator, Wave};
use aether_gateway::GatewayOptions;

use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn promtool_accepts_the_prometheus_format() {
    let aether = Aether::local();
    let mut running = support::run(&aether, GatewayOptions::default()).await;
    let shop = Vibrator::create("sh\"op\\ä", &aether).await.unwrap();
    shop.resonate_on("nothing").await.unwrap();
    for kind in [Kind::Event, Kind::Command, Kind::Broadcast] {
        shop.emit(Wave::builder("orders.\"odd\\").kind(kind).text("123").build().unwrap()).await.unwrap();
    }
    running.observes(3).await;
    let insight = running.insight.as_ref().unwrap();
    insight.looked().await;

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
        // Each scrape is a connection, which is the only changing value.
        let is_value = |line: &&str| !line.starts_with('#') && !line.contains("http_connections_total");
        text.lines().filter(is_value).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&open_metrics.body), lines(&prometheus.body));
    running.stop().await;
}

#[test]
fn the_alert_rules_fire_on_incidents_and_not_on_findings() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "tests/gateway/alerts_test.yml"]] {
        let output = Command::new(promtool()).args(args).current_dir(package).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
    }
}

/// The path of promtool.
fn promtool() -> PathBuf {
    find().unwrap_or_else(|| {
        panic!(
            "no promtool found: run `cargo xtask tools`, or set AETHER_PROMTOOL to the path of one (it comes with Prometheus)"
        )
    })
}

/// Fails with the output of promtool.
fn check(text: &str) {
    let promtool = promtool();
    let mut child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", promtool.display()));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {}\n{said}\n{text}", output.status);
}

/// Finds promtool: the one in the environment variable, else that of `cargo xtask tools`, else that on `PATH`.
fn find() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(named) = variable("AETHER_PROMTOOL") {
        return Some(named.into());
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = variable("CARGO_TARGET_DIR").map(PathBuf::from);
    let targets = target.into_iter().chain(package.ancestors().map(|folder| folder.join("target")));
    let installed = targets.map(|target| target.join("tools/promtool/promtool"));
    let path = variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("promtool")).collect::<Vec<_>>();
    installed.chain(on_path).find(|program| program.is_file())
}
