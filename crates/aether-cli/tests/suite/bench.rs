//! `aether bench`: short runs, of which the accounts are checked and never the speed.

use aether_conformance::NatsServer;
use serde_json::Value;

use crate::process::{PATIENCE, Running, Said, run};

const SHORT: [&str; 4] = ["--seconds", "0.2", "--service", "200us"];

fn json(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    serde_json::from_str(&said.out).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} cannot be read as a count"))
}

/// Checks that each message of each run is accounted for, and returns the runs as contestant, load, offered, silent.
fn check_accounts(comparison: &Value) -> Vec<(String, f64, u64, u64)> {
    assert_eq!(comparison["complete"], true);
    let runs = comparison["runs"].as_array().unwrap().iter();
    runs.map(|run| {
        let (mut offered, mut silent) = (0, 0);
        for strength in ["strong", "weak"] {
            let account = &run[strength];
            let lost: u64 = account["lost"].as_object().unwrap().values().map(number).sum();
            assert_eq!(number(&account["offered"]), number(&account["delivered"]) + lost, "{run}");
            offered += number(&account["offered"]);
            silent += number(&account["lost"]["silent"]);
        }
        assert!(number(&run["weak"]["offered"]) > number(&run["strong"]["offered"]), "{run}");
        (run["contestant"].as_str().unwrap().to_owned(), run["load"].as_f64().unwrap(), offered, silent)
    })
    .collect()
}

#[test]
fn an_overload_in_process_is_accounted_for_to_the_last_message() {
    let args = ["bench", "overload", "--json", "--peers", "--loads", "2,8", "--seed", "3", "--no-step"];
    let comparison = json(&run(&[&args[..], &SHORT].concat()));
    let runs = check_accounts(&comparison);
    let names: Vec<_> = runs.iter().map(|(name, load, ..)| (name.as_str(), *load)).collect();
    let at = |load| {
        [
            ("tokio mpsc", load),
            ("two tokio mpsc, strong first", load),
            ("tokio broadcast", load),
            ("Aether", load),
        ]
    };
    assert_eq!(names, [at(2.0), at(8.0)].concat());
    for (name, load, offered, silent) in &runs {
        // Nobody here loses without telling anybody.
        assert_eq!(*silent, 0, "{name}");
        let same = runs.iter().filter(|other| other.1 == *load).all(|other| other.2 == *offered);
        assert!(same && *offered > 0, "the schedule is the same for all: {runs:?}");
    }
    let lost = |run: &Value, why: &str| number(&run["weak"]["lost"][why]);
    let last = |name: &str| {
        let run = names.iter().rposition(|(other, _)| *other == name).unwrap();
        &comparison["runs"][run]
    };
    let (mpsc, aether) = (last("tokio mpsc"), last("Aether"));
    assert!(lost(mpsc, "refused") > 0 && lost(aether, "full") + lost(aether, "sojourn") > 0, "{comparison}");
    assert_eq!(number(&aether["strong"]["lost"]["full"]), 0, "the weak ones go first: {aether}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_nats_the_receiver_is_a_process_and_the_accounts_add_up_as_well() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let args = ["bench", "overload", "--json", "--peers", "--loads", "4", "--medium", &url];
    let comparison = json(&run(&[&args[..], &SHORT].concat()));
    let runs = check_accounts(&comparison);
    let names: Vec<_> = runs.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["async-nats", "Aether over NATS"]);
    assert_eq!(runs[1].3, 0, "Aether knows of each message that it lost: {comparison}");
    for step in comparison["steps"].as_array().unwrap() {
        let windows = step["windows"].as_array().unwrap();
        assert_eq!(windows.len(), 12, "{step}");
        let sum = |what: &str| windows.iter().map(|window| number(&window[what])).sum::<u64>();
        assert!(sum("delivered") <= sum("offered") && sum("offered") > 0, "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn throughput_and_latency_count_what_they_sent_on_both_media() {
    let server = NatsServer::start().await.unwrap();
    for medium in ["local:", &server.url()] {
        let throughput =
            json(&run(&["bench", "throughput", "--seconds", "0.2", "--json", "--medium", medium]));
        let count = |what: &str| number(&throughput[what]);
        assert_eq!(count("offered"), count("delivered") + count("lost"), "{throughput}");
        assert!(count("delivered") > 0 && throughput["per_second"].as_f64().unwrap() > 0.0, "{throughput}");

        let args = ["bench", "latency", "--seconds", "0.2", "--rate", "2000", "--json", "--medium", medium];
        let latency = json(&run(&args));
        let waves = &latency["weak"];
        assert_eq!(number(&waves["offered"]), number(&waves["delivered"]), "{latency}");
        assert!(waves["p50_us"].as_f64().unwrap() <= waves["p999_us"].as_f64().unwrap(), "{latency}");
    }
}

#[test]
fn the_tables_have_a_line_for_each_run_and_strength() {
    let args = ["bench", "overload", "--loads", "0.5,4"];
    let said = run(&[&args[..], &SHORT].concat());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    for load in ["0.5x", "4x"] {
        let lines = said.out.lines().filter(|line| line.trim_start().starts_with(load));
        let waves: Vec<_> = lines.map(|line| line.split_whitespace().nth(2).unwrap()).collect();
        assert_eq!(waves, ["strong", "weak"], "{}", said.out);
    }
    assert!(said.out.contains("strong p99 from") && said.out.contains("+450 ms"), "{}", said.out);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_long_run_soon_and_leaves_no_receiver_behind() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let mut listener = Running::start(&["listen", "bench.>", "--count", "1", "--medium", &url]);
    listener.tells("listening on ");
    let bench =
        Running::start(&["bench", "overload", "--seconds", "600", "--service", "1ms", "--medium", &url]);
    // In the middle of a run: its messages pass.
    listener.line();
    bench.signal(nix::sys::signal::Signal::SIGINT);
    let (said, took) = bench.end();
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{}", said.err);
    assert!(said.err.contains("interrupted before the first load was done"), "{}", said.err);
    // Its pipes have closed, which the receiver had too.
    assert!(took < PATIENCE, "{took:?}");
}

/// As Ctrl-C does in a terminal: everything in the foreground gets the signal.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_for_the_whole_group_lets_the_receiver_say_what_it_heard() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let mut listener = Running::start(&["listen", "bench.>", "--count", "1", "--medium", &url]);
    listener.tells("listening on ");
    let bench =
        Running::start_group(&["bench", "throughput", "--seconds", "600", "--json", "--medium", &url]);
    listener.line();
    bench.signal_group(nix::sys::signal::Signal::SIGINT);
    let throughput = json(&bench.end().0);
    let count = |what: &str| number(&throughput[what]);
    assert!(count("delivered") > 0, "{throughput}");
    assert_eq!(count("offered"), count("delivered") + count("lost"), "{throughput}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_run_whose_server_is_gone() {
    for command in [&["throughput"][..], &["latency", "--rate", "1000"]] {
        let mut server = NatsServer::start().await.unwrap();
        let url = server.url();
        let mut listener = Running::start(&["listen", "bench.>", "--count", "1", "--medium", &url]);
        listener.tells("listening on ");
        let bench = Running::start(&[&["bench"], command, &["--seconds", "600", "--medium", &url]].concat());
        listener.line();
        server.kill().await.unwrap();
        bench.signal(nix::sys::signal::Signal::SIGINT);
        let (said, took) = bench.end();
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{command:?}: {}", said.err);
        assert!(said.err.contains("error: interrupted before"), "{command:?}: {}", said.err);
        assert!(took < PATIENCE, "{command:?}: {took:?}");
    }
}

#[test]
fn a_storm_accounts_for_each_question() {
    let args =
        ["bench", "storm", "--before", "250ms", "--fault", "250ms", "--after", "500ms", "--load", "0.3"];
    let storms = json(&run(&[&args[..], &["--json"]].concat()));
    let reports = storms["reports"].as_array().unwrap();
    let names: Vec<_> = reports.iter().map(|report| report["retries"].as_str().unwrap()).collect();
    assert_eq!(names, ["bounded", "naive"]);
    for report in reports {
        let count = |what: &str| number(&report[what]);
        assert_eq!(count("asked"), count("answered") + count("failed"), "{report}");
        let windows = report["windows"].as_array().unwrap();
        assert_eq!(windows.iter().map(|window| number(&window["asked"])).sum::<u64>(), count("asked"));
        assert_eq!(windows.len(), 4, "{report}");
    }
}

#[test]
fn a_server_that_is_not_there_is_said_so_and_a_receiver_is_not_for_people() {
    for command in ["overload", "latency", "throughput", "storm"] {
        let said = run(&["bench", command, "--medium", "nats://127.0.0.1:1", "--wait", "0"]);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{command}: {}", said.err);
        assert!(said.err.contains("cannot connect to nats://127.0.0.1:1"), "{command}: {}", said.err);
    }
    let said = run(&["bench", "receiver"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("started by the benchmarks"), "{}", said.err);
}
