//! `aether up` in one process: it ends as it should, and its sums add up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::process::{PATIENCE, Running, Said, run, sum, term};

const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// The address in the line that is printed first.
pub(crate) fn address(first_line: &str) -> &str {
    first_line
        .strip_prefix("gateway: http://")
        .and_then(|rest| rest.strip_suffix('/'))
        .unwrap_or_else(|| panic!("{first_line:?}"))
}

pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Checks the sums that stand at the end, and returns how many orders there were.
fn check_sums(out: &str) -> u64 {
    let lines: Vec<_> = out.lines().collect();
    let [orders, stock, waves, seen] = lines[lines.len() - 4..] else { panic!("{out}") };
    let orders = sum(orders);
    assert!(
        ["completed", "refused", "compensated", "in flight"]
            .iter()
            .all(|word| term(&orders, word) < u64::MAX)
    );
    assert!(stock.starts_with("stock: "), "{out}");
    sum(stock);
    let waves = sum(waves);
    assert_eq!(term(&waves, "queued"), 0, "everybody has ended: {out}");
    // Nothing is lost in a system that is not overloaded, and the observer ends last.
    assert_eq!(term(&waves, "offered"), term(&waves, "delivered"), "{out}");
    assert_eq!((term(&waves, "full"), term(&waves, "expired"), term(&waves, "closed")), (0, 0, 0), "{out}");
    let seen: u64 =
        seen.strip_prefix("observed by the gateway: ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(seen > term(&orders, "created") && seen <= term(&waves, "delivered"), "{out}");
    term(&orders, "created")
}

#[test]
fn fifty_orders_end_by_themselves_and_everything_adds_up() {
    let said = run(&[&["up", "--orders", "50", "--rate", "200"], &ANY_PORT[..]].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
    let first = said.out.lines().next().unwrap();
    assert!(address(first).starts_with("127.0.0.1:") && !first.ends_with(":0/"), "{first}");
    assert_eq!(check_sums(&said.out), 50);
    assert!(said.out.contains("+ 0 in flight"), "{}", said.out);
    assert!(
        said.out.contains("  event     alpha     {\"order\":") && said.out.contains(" more\n"),
        "{}",
        said.out
    );
    assert!(!said.out.contains('\x1b'), "no terminal, no colours: {}", said.out);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_within_a_second_or_so_with_code_0_and_sums_that_add_up() {
    use nix::sys::signal::Signal;

    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut up = Running::start(&[&["up", "--rate", "100"], &ANY_PORT[..]].concat());
        let first = up.line();
        // A standing such as `1 s | 51 orders: ...`: the system is in full flow.
        let orders = |line: &str| {
            let (_, standing) = line.split_once(" s | ")?;
            standing.split_once(" orders: ")?.0.parse::<u64>().ok()
        };
        while orders(&up.line()).is_none_or(|orders| orders <= 20) {}
        assert!(get(address(&first), "/readyz").starts_with("HTTP/1.1 200"));
        let metrics = get(address(&first), "/metrics");
        assert!(metrics.contains("aether_inbox_offered_waves_total{vibrator=\"beta\"}"), "{metrics}");
        let page = get(address(&first), "/status");
        assert!(page.contains("orders.created") && page.contains("<td>alpha</td>"), "{page}");

        up.signal(signal);
        let (said, took) = up.end();
        assert_eq!(said.code, Some(0), "{signal}: {}", said.err);
        // A second; the rest is for a busy machine. Nothing else ends it.
        assert!(took < PATIENCE, "{signal}: {took:?} {}", said.err);
        assert!(check_sums(&said.out) > 20, "{}", said.out);
    }
}

#[cfg(unix)]
#[test]
fn the_metrics_of_all_three_services_are_served_on_an_address_of_their_own() {
    let args = [&["up", "--rate", "100", "--metrics", "127.0.0.1:0"], &ANY_PORT[..]].concat();
    let mut up = Running::start(&args);
    let line = up.tells("metrics: http://");
    let (_, rest) = line.split_once("metrics: http://").unwrap();
    let metrics_address = rest.split('/').next().unwrap();
    let mut first = up.line();
    let page = address(&first).to_owned();
    assert_ne!(page, metrics_address);
    while !first.contains(" in flight | ") {
        first = up.line();
    }
    let metrics = get(metrics_address, "/metrics");
    for part in [
        "aether_service_waves_total{service=\"beta\",outcome=\"succeeded\"}",
        "aether_wave_handling_seconds_bucket{",
        "service=\"payments\"",
        "aether_observed_waves_total{channel=\"orders.created\"",
    ] {
        assert!(metrics.contains(part), "no {part} in {metrics}");
    }
    assert!(get(metrics_address, "/readyz").ends_with("ready\n"));
    up.signal(nix::sys::signal::Signal::SIGTERM);
    let (said, _) = up.end();
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[cfg(unix)]
#[test]
fn its_gateway_shows_its_own_durable_log() {
    let folder = tempfile::tempdir().unwrap();
    let of = format!("durable.folder={}", folder.path().display());
    let durable = ["up", "--rate", "100", "--set", &of, "--set", "durable.stored=orders.>"];
    let mut up =
        Running::start(&[&durable[..], &["--set", "durable.max_waves=5000"], &ANY_PORT[..]].concat());
    let first = up.line();
    let stored = || -> Value {
        let answer = get(address(&first), "/api/durable");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let mut body = stored();
    while body["logs"][0]["held"]["last"].as_u64().is_none_or(|last| last < 10) {
        body = stored();
    }
    let log = &body["logs"][0];
    assert_eq!(
        (&log["name"], &log["error"], &log["consumers"][0]),
        (&"aether-up".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(log["held"]["retention"]["max_waves"], 5000);
    up.signal(nix::sys::signal::Signal::SIGTERM);
    let (said, _) = up.end();
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_reader_that_goes_away_ends_it_and_is_no_failure() {
    let mut up = Running::start_unread(&[&["up", "--rate", "100"], &ANY_PORT[..]].concat());
    let mut reader = BufReader::new(up.stdout());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    address(first.trim_end());
    drop(reader);
    let (Said { code, err, .. }, _) = up.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(!err.contains("error"), "{err}");
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(&["up", "--orders", "1", "--listen", &address]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{}", said.err);
    assert!(said.err.contains(&format!("cannot listen on {address}: ")), "{}", said.err);
}

/// The lines that the overload ends with: each must add up.
#[cfg(all(unix, feature = "bench"))]
fn check_overload(out: &str) -> [Vec<(String, u64)>; 2] {
    ["strong: ", "weak: "].map(|start| {
        let line = out.lines().rfind(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{out}"));
        sum(line)
    })
}

#[cfg(all(unix, feature = "bench"))]
#[test]
fn an_overload_is_shown_line_by_line_and_its_sums_add_up_when_a_signal_ends_it() {
    let mut up = Running::start(&[&["up", "--overload", "4"], &ANY_PORT[..]].concat());
    address(&up.line());
    let announced = up.line();
    assert!(announced.starts_with("overload: ") && announced.contains("offered 4 times that"), "{announced}");
    for _ in 0..2 {
        let line = up.line();
        assert!(line.contains(" s | strong: ") && line.contains(" | weak: "), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
    up.signal(nix::sys::signal::Signal::SIGINT);
    let (said, took) = up.end();
    assert_eq!(said.code, Some(0), "{}", said.err);
    // A second; the rest is for a busy machine. Without a signal it has no end.
    assert!(took < PATIENCE, "{took:?} {}", said.err);
    let [strong, weak] = check_overload(&said.out);
    assert_eq!((term(&strong, "on the way"), term(&weak, "on the way")), (0, 0), "{}", said.out);
    assert_eq!(term(&strong, "full"), 0, "the weak ones go first: {}", said.out);
    assert!(term(&weak, "full") + term(&weak, "sojourn") > term(&weak, "delivered"), "{}", said.out);
    assert!(said.out.contains("\norders: ") && said.out.contains("\nwaves: "), "{}", said.out);
    sum(said.out.lines().find(|line| line.starts_with("waves: ")).unwrap());
}
