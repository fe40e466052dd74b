//! The scrape configuration, the alert rules and the dashboard in `deploy/`, with a real Prometheus that scrapes the three
//! sample processes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::collector::Collector;
use crate::nats::{server, with};
use crate::process::{PATIENCE, Running};
use crate::up::{address, get};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// Prometheus and its promtool: beside the promtool in the variable, from `cargo xtask tools`, or on the PATH.
fn program(name: &str) -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let beside = variable("AETHER_PROMTOOL").and_then(|promtool| Some(promtool.parent()?.join(name)));
    let target = variable("CARGO_TARGET_DIR").unwrap_or_else(|| deploy().join("../target"));
    let installed = target.join("tools/promtool").join(name);
    let path = variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>();
    let found = beside.into_iter().chain([installed]).chain(on_path).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("no {name} found: run `cargo xtask tools`, or install Prometheus"))
}

#[test]
fn the_rules_and_the_scrape_configuration_are_valid_and_each_alert_fires_when_it_should() {
    for args in [["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]] {
        let promtool =
            Command::new(program("promtool")).args(args).current_dir(deploy().join("prometheus")).output();
        let output = promtool.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
    }
}

/// A target that counts the scrapes: all targets are scraped at the same rate.
struct Scrapes(TcpListener);

impl Scrapes {
    fn take(&self, number: usize) {
        for _ in 0..number {
            let (mut connection, _) = self.0.accept().unwrap();
            let lines = BufReader::new(connection.try_clone().unwrap()).lines();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";
            write!(connection, "{head}content-length: 0\r\n\r\n").unwrap();
        }
    }
}

/// A port that is free now and stays so.
fn free_port() -> u16 {
    aether_conformance::free_port().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_has_an_answer_in_a_real_prometheus() {
    let (_server, medium) = server().await;
    let collector = Collector::start();
    let otlp = format!("telemetry.otlp={}", collector.address());
    let more = ["--set", &otlp, "--metrics", "127.0.0.1:0"];
    let metrics_of = |args: &[&str]| {
        let mut running = Running::start(&with(&[args, &more].concat(), &medium));
        let line = running.tells("metrics: http://");
        let (_, rest) = line.split_once("metrics: http://").unwrap();
        (running, rest.split('/').next().unwrap().to_owned())
    };
    let mut gateway = Running::start(&with(&["gateway", "--listen", "127.0.0.1:0"], &medium));
    let gateway_address = address(&gateway.line()).to_owned();
    let (_beta, beta_address) = metrics_of(&["beta"]);
    let (_alpha, alpha_address) = metrics_of(&["alpha", "--rate", "100"]);

    // The configuration of deploy/, with the ports of this run and one target more.
    let scrapes = Scrapes(TcpListener::bind("127.0.0.1:0").unwrap());
    let written = std::fs::read_to_string(deploy().join("prometheus/prometheus.yml")).unwrap();
    // A scrape has as long as there is between two of them.
    let mut config = written.replace("5s", "1s");
    for (default, actual) in [
        ("127.0.0.1:9464", &alpha_address),
        ("127.0.0.1:9465", &beta_address),
        ("127.0.0.1:8080", &gateway_address),
    ] {
        assert!(config.contains(default), "{config}");
        config = config.replace(default, actual);
    }
    let folder = deploy().canonicalize().unwrap();
    config = config.replace("- rules.yml", &format!("- {}/prometheus/rules.yml", folder.display()));
    config = config.replace("- ../..", &format!("- {}/..", folder.display()));
    config += &format!(
        "  - job_name: scrapes\n    static_configs:\n      - targets: [\"{}\"]\n",
        scrapes.0.local_addr().unwrap()
    );
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("prometheus.yml"), config).unwrap();
    let prometheus_address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(program("prometheus"));
    command.current_dir(data.path()).stdin(Stdio::null()).args([
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        &format!("--web.listen-address={prometheus_address}"),
    ]);
    let mut prometheus = Running::of(command);
    prometheus.tells("Server is ready to receive web requests");
    // Four scrapes of one target are at least three of each other.
    scrapes.take(4);
    let end = Instant::now() + PATIENCE;
    // A scrape that took too long on a busy machine comes again.
    let answered = |path: &str, is_wanted: &dyn Fn(&Value) -> bool| -> Value {
        loop {
            let answer = get_once(&prometheus_address, path);
            if is_wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < end, "{path}: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };

    let dashboard = std::fs::read_to_string(deploy().join("grafana/aether.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 15);
    let mut queries = 0;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "10s");
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        answered(&format!("/api/v1/query?query={escaped}"), &|answer: &Value| {
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            !answer["data"]["result"].as_array().unwrap().is_empty()
        });
        queries += 1;
    }
    assert!(queries > panels.len(), "{queries}");
    // A quantile of waves that really waited, were handled and travelled.
    for metric in ["aether_wave_wait_seconds", "aether_wave_handling_seconds", "aether_wave_transit_seconds"]
    {
        answered(&format!("/api/v1/query?query=sum({metric}_count)"), &|answer: &Value| {
            let count = answer["data"]["result"][0]["value"][1].as_str();
            count.is_some_and(|count| count.parse::<f64>().unwrap() > 100.0)
        });
    }
    let of = |groups: &Value| -> Vec<Value> {
        let groups = groups["data"]["groups"].as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    };
    // Each was evaluated.
    let rules =
        answered("/api/v1/rules", &|rules: &Value| of(rules).iter().all(|rule| rule["health"] != "unknown"));
    assert_eq!(rules["data"]["groups"].as_array().unwrap().len(), 2, "{rules}");
    for rule in of(&rules) {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

/// The body of an answer, whose connection the server closes.
fn get_once(address: &str, path: &str) -> Value {
    let path = format!("{path} HTTP/1.0\r\nconnection: close\r\nx-rest:");
    let answer = get(address, &path);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
