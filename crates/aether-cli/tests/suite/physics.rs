//! The service map and the findings of real processes over a real NATS server.

use aether_core::{Vibrator, Wave};
use serde_json::Value;

use crate::nats::{server, with};
use crate::process::{Running, run, run_all};

/// A shop whose orders a stock reserves, `orders` of them, one after the other.
async fn trade(url: &str, orders: usize) {
    let (one, other) = (aether::connect(url).await.unwrap(), aether::connect(url).await.unwrap());
    let shop = Vibrator::create("shop", &one).await.unwrap();
    let mut stock = Vibrator::create("stock", &other).await.unwrap();
    stock.resonate_on("orders.*").await.unwrap();
    for order in 0..orders {
        shop.emit_wave("orders.created", &order).await.unwrap();
        let created = stock.receive().await.unwrap();
        let reserved = Wave::builder("stock.reserved").cause(created.id()).build().unwrap();
        stock.emit(reserved).await.unwrap();
    }
    other.close().await.unwrap();
    one.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_map_is_that_of_the_causes() {
    let (_server, medium) = server().await;
    let mut map =
        Running::start(&with(&["map", "--format", "json", "--count", "40", "--for", "10m"], &medium));
    map.tells("watching > for 10m");
    trade(&medium[1], 20).await;
    let (said, _) = map.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("40 waves, 1 edges"), "{}", said.err);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    let edge = &json["edges"][0];
    assert_eq!((&edge["from"], &edge["to"]), (&"orders.created".into(), &"stock.reserved".into()));
    assert_eq!((&edge["tier"], &edge["waves"], &edge["effect"]), (&"L0".into(), &20.into(), &1.0.into()));
    assert_eq!((&edge["emitters"][0], &edge["handlers"][0]), (&"shop".into(), &"stock".into()));
    assert_eq!(edge["confidence"], 1.0);
    for rate in ["waves_a_second", "from_waves_a_second", "to_waves_a_second"] {
        assert!(edge[rate].as_f64().unwrap() > 0.0, "{edge}");
    }
    let lag = edge["median_lag_ms"].as_f64().unwrap();
    assert!((0.0..60_000.0).contains(&lag), "{lag}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_map_is_drawn_for_graphviz_and_for_markdown() {
    let (_server, medium) = server().await;
    for (format, begins, edge) in
        [("dot", "digraph resonance {", "n0 -> n1 [label=\"L0 "), ("mermaid", "flowchart LR", "n0 -->|\"L0 ")]
    {
        let args = ["map", "--format", format, "--count", "10", "--for", "10m"];
        let mut map = Running::start(&with(&args, &medium));
        map.tells("watching >");
        trade(&medium[1], 5).await;
        let (said, _) = map.end();
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.starts_with(begins) && said.out.contains(edge), "{said:?}");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn findings_are_printed_as_they_come_and_ctrl_c_ends_both() {
    use nix::sys::signal::Signal::SIGINT;
    let (_server, medium) = server().await;
    let mut map = Running::start(&with(&["map", "--for", "10m"], &medium));
    map.tells("watching >");
    let mut physics = Running::start(&with(&["physics", "--details", "--every", "50ms"], &medium));
    physics.tells("watching >");
    trade(&medium[1], 20).await;
    // On an idle machine the trade is so even that it may be found to be a beat as well.
    let line = says(&mut physics, "related: orders.created -> stock.reserved after ");
    assert!(line.ends_with("by stock)"), "{line}");
    for running in [physics, map] {
        running.signal(SIGINT);
        let (said, _) = running.end();
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

/// The next line of stdout that begins like this; the lines before it are passed over.
#[cfg(unix)]
fn says(running: &mut Running, beginning: &str) -> String {
    loop {
        let line = running.line();
        if line.starts_with(beginning) {
            return line;
        }
    }
}

/// The recording of a shop whose stock was killed and came back. In real time: `long`.
#[test]
fn a_recording_of_a_service_that_is_killed_has_one_incident_that_ends_when_it_is_back() {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/../aether-bench/recordings/beta-restarted.rec");
    let [said, details] =
        run_all([&["physics", "--replay", recording], &["physics", "--details", "--replay", recording]]);
    assert_eq!((said.code, details.code), (Some(0), Some(0)), "{said:?} {details:?}");
    let is_found = |line: &&str| !line.contains(" noted in the recording: ");
    let lines: Vec<_> = said.out.lines().filter(is_found).collect();
    let [stopped, ended] = lines[..] else { panic!("{said:?}") };
    assert!(stopped.contains(" critical: beta stopped: its "), "{stopped}");
    assert!(stopped.ends_with("; check the process"), "{stopped}");
    assert!(ended.contains(" critical: ended: beta sent nothing for "), "{ended}");
    let place = |part| details.out.lines().position(|line| line.contains(part)).expect(part);
    let found = place("standing wave: inventory.level by beta beats every 1.00 s");
    let missed = place("missing beat: inventory.reserved by beta ");
    assert!(found < missed && missed < place("resumed: inventory.reserved by beta "), "{details:?}");
}

/// A file that is removed with it.
struct Recorded(std::path::PathBuf);

impl Recorded {
    fn named(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("aether-{}-{name}.rec", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_recorded_with_an_account_and_replayed_without_a_server() {
    let (server, medium) = server().await;
    let file = Recorded::named("trade");
    let mut record =
        Running::start(&with(&["record", file.path(), "--count", "40", "--for", "10m"], &medium));
    record.tells("recording > to ");
    trade(&medium[1], 20).await;
    let (said, _) = record.end();
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    let bytes = std::fs::metadata(file.path()).unwrap().len();
    assert!(
        said.err.contains("recorded 40 waves in ")
            && said.err.contains(&format!("{bytes} bytes, 0 waves lost"))
    );
    drop(server);

    let replayed = run(&["physics", "--details", "--replay", file.path()]);
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    assert!(replayed.out.contains(" s related: orders.created -> stock.reserved after "), "{}", replayed.out);
    assert!(
        replayed.err.contains("40 waves in ") && replayed.err.contains("1 edges, 0 incidents"),
        "{}",
        replayed.err
    );
    let plain = run(&["physics", "--replay", file.path()]);
    assert_eq!((plain.code, plain.out.as_str()), (Some(0), ""), "{plain:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_was_cut_off_is_replayed_up_to_its_end() {
    let (_server, medium) = server().await;
    let file = Recorded::named("torn");
    let mut record = Running::start(&with(&["record", file.path(), "--count", "40"], &medium));
    record.tells("recording > to ");
    trade(&medium[1], 20).await;
    assert_eq!(record.end().0.code, Some(0));
    let whole = std::fs::read(file.path()).unwrap();
    std::fs::write(file.path(), &whole[..whole.len() - 8]).unwrap();
    let replayed = run(&["physics", "--replay", file.path()]);
    assert_eq!(replayed.code, Some(1), "{replayed:?}");
    assert!(replayed.err.contains("the recording ends too early, after "), "{}", replayed.err);
    assert!(replayed.err.contains("the entries before are complete"), "{}", replayed.err);
}

#[test]
fn what_is_no_recording_is_said_to_be_none() {
    let other = run(&["physics", "--replay", "Cargo.toml"]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.err.contains("this is not a recording of `aether record`"), "{}", other.err);
    let missing = run(&["physics", "--replay", "no/such/file"]);
    assert!(missing.err.contains("cannot open no/such/file"), "{}", missing.err);
}

/// The channels of the order flow, as the sources of both services have it: what each wave makes somebody emit.
const ALWAYS: [(&str, &str); 12] = [
    ("orders.created", "inventory.reserve"),
    ("inventory.reserve", "inventory.reserved"),
    ("inventory.reserve", "inventory.refused"),
    ("inventory.reserve", "orders.refused"),
    ("inventory.reserve", "payments.charge"),
    ("payments.charge", "payments.charged"),
    ("payments.charge", "payments.declined"),
    ("payments.charge", "inventory.commit"),
    ("payments.charge", "inventory.release"),
    ("inventory.commit", "orders.completed"),
    ("inventory.release", "inventory.released"),
    ("inventory.release", "orders.compensated"),
];
/// Where an article begins or ceases to run low, which depends on what is ordered.
const SOMETIMES: [(&str, &str); 2] =
    [("inventory.reserve", "inventory.low"), ("inventory.release", "inventory.low")];

#[test]
fn the_map_of_the_order_flow_is_the_true_one() {
    let said = run(&["up", "--orders", "300", "--rate", "300", "--listen", "127.0.0.1:0"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let map = said.out.lines().skip_while(|line| !line.starts_with("service map: ")).skip(1);
    let lines: Vec<&str> = map.take_while(|line| line.starts_with("  ")).collect();
    let found: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| {
            let (edge, measured) = line.trim().split_once(" after ").unwrap();
            let lag: f64 = measured.split(' ').next().unwrap().parse().unwrap();
            assert!(lag > 0.0 && measured.contains("(L0, "), "{line}");
            edge.split_once(" -> ").unwrap()
        })
        .collect();
    for edge in ALWAYS {
        assert!(found.contains(&edge), "{edge:?} is missing of {}", said.out);
    }
    for edge in &found {
        assert!(ALWAYS.contains(edge) || SOMETIMES.contains(edge), "{edge:?} is none: {}", said.out);
    }
}

#[test]
fn without_a_server_it_says_what_to_do() {
    for command in [&["map"][..], &["physics"], &["record", "never-made.rec"]] {
        let said = run(command);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("Start a NATS server"), "{}", said.err);
    }
}

/// Tests that take as long as the detectors need in real time.
#[cfg(unix)]
mod long {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_is_killed_is_one_incident_that_ends_when_it_is_back() {
        use nix::sys::signal::Signal::{SIGINT, SIGKILL};
        let (_server, medium) = server().await;
        let mut details = Running::start(&with(&["physics", "--details"], &medium));
        details.tells("watching >");
        let mut physics = Running::start(&with(&["physics"], &medium));
        physics.tells("watching >");
        // Beats have to stand for ten seconds, which are twelve of these: the slowest are the easiest to keep on a busy
        // machine.
        let beta = ["beta", "--heartbeat", "0.8"];
        let running = Running::start(&with(&beta, &medium));
        let found = says(&mut details, "standing wave: inventory.level by beta beats every ");
        let period: f64 = found.split(' ').nth(7).unwrap().parse().unwrap();
        assert!((760.0..840.0).contains(&period) && found.contains(" ms, "), "{found}");
        running.signal(SIGKILL);
        let missed = says(&mut details, "missing beat: inventory.level by beta ");
        assert!(missed.contains("has been silent for "), "{missed}");

        // Without details, the first line is the incident, after its time.
        let line = physics.line();
        let (time, incident) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        let stopped = "critical: beta stopped: its stream inventory.level is silent for ";
        assert!(incident.starts_with(stopped) && incident.ends_with("; check the process"), "{line}");
        let _again = Running::start(&with(&beta, &medium));
        let line = physics.line();
        assert!(line.contains(" critical: ended: beta sent nothing for "), "{line}");
        for running in [physics, details] {
            running.signal(SIGINT);
            assert_eq!(running.end().0.code, Some(0));
        }
    }
}
