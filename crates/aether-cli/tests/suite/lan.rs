//! `aether lan` between real processes: over loopback TCP with ports of their own, and between two network namespaces.

use std::process::Command;

use crate::findings::findings;
use crate::process::{Running, Said, aether, sum, term};
use nix::sys::signal::Signal;
use serde_json::Value;

const SECRET: &str = "a secret of these tests";

/// A port that is free now and stays so.
fn free_port() -> u16 {
    aether_conformance::free_port().unwrap()
}

/// The address of a process that listens on the first port and connects to the others.
fn address(port: u16, others: &[u16]) -> String {
    let peers: String = others.iter().map(|other| format!("&peer=127.0.0.1:{other}")).collect();
    format!("lan:?multicast=off&listen=127.0.0.1:{port}{peers}")
}

fn command(args: &[&str], secret: &str) -> Command {
    let mut command = aether(args);
    command.env("AETHER_LAN_SECRET", secret);
    command
}

fn run(args: &[&str], secret: &str) -> Said {
    let output = command(args, secret).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A member of a group, which is there when this returns.
fn listener(medium: &str) -> Running {
    let args = ["listen", "orders.>", "--group", "shop", "--medium", medium];
    let mut listener = Running::of(command(&args, SECRET));
    listener.tells("listening on orders.>");
    listener
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"))
}

#[test]
fn peers_are_listed_with_what_is_known_of_them_and_followed() {
    let ports = [free_port(), free_port(), free_port()];
    let _listener = listener(&address(ports[0], &[]));
    let medium = address(ports[1], &ports[..1]);
    let said = run(&["lan", "peers", "--json", "--for", "2m", "--medium", &medium], SECRET);
    let peer = json(&said.out);
    assert_eq!((said.code, &peer["name"], &peer["protocol"]), (Some(0), &"aether-listen".into(), &2.into()));
    let number = |key: &str| peer[key].as_u64().unwrap_or_else(|| panic!("{key}: {peer}"));
    assert!(number("patterns") > 0 && number("groups") > 0, "{peer}");
    assert!(peer["round_trip_micros"].as_u64().unwrap() > 0 && peer["clock_ahead_micros"].is_i64(), "{peer}");
    let (id, machine) = (peer["id"].as_str().unwrap(), peer["machine"].as_str().unwrap());
    assert!(id.len() == 16 && !machine.is_empty(), "{peer}");
    let said = run(&["lan", "peers", "--for", "2m", "--medium", &medium], SECRET);
    let lines: Vec<_> = said.out.lines().collect();
    assert!(said.code == Some(0) && lines.len() == 2 && lines[0].starts_with("NAME "), "{said:?}");
    assert!([id, machine, "aether-listen", " ms "].iter().all(|part| lines[1].contains(part)), "{said:?}");

    let mut watch = Running::of(command(&["lan", "peers", "--watch", "--json", "--medium", &medium], SECRET));
    let came = json(&watch.line());
    assert_eq!((&came["event"], &came["id"]), (&"came".into(), &id.into()), "{came}");
    let second = listener(&address(ports[2], &ports[..2]));
    let came = json(&watch.line());
    assert_eq!((&came["event"], &came["name"]), (&"came".into(), &"aether-listen".into()), "{came}");
    second.signal(Signal::SIGTERM);
    // It may have come before it subscribed.
    let left = loop {
        let event = json(&watch.line());
        if event["event"] != "changed" {
            break event;
        }
    };
    assert_eq!((&left["event"], &left["id"]), (&"left".into(), &came["id"]), "{left}");
    watch.signal(Signal::SIGINT);
    assert_eq!(watch.end().0.code, Some(0));
}

#[test]
fn pings_are_measured_and_lost_ones_are_counted() {
    let ports = [free_port(), free_port()];
    let listener = listener(&address(ports[0], &[]));
    let medium = address(ports[1], &ports[..1]);
    let patient = ["--for", "2m", "--timeout", "2m", "--medium", &medium];
    let args = ["lan", "ping", "aether-listen", "-n", "20", "--interval", "5ms", "--json"];
    let said = run(&[&args[..], &patient].concat(), SECRET);
    let series = json(&said.out);
    assert_eq!(
        (said.code, &series["answered"], &series["lost"]),
        (Some(0), &20.into(), &0.into()),
        "{said:?}"
    );
    let number = |key: &str| series[key].as_i64().unwrap_or_else(|| panic!("{key}: {series}"));
    let times = ["min_micros", "median_micros", "p99_micros", "max_micros"].map(number);
    assert!(times[0] > 0 && times.is_sorted(), "{series}");
    // It is the same clock; a millisecond for one that is being adjusted.
    assert!(number("clock_ahead_micros").abs() <= number("clock_within_micros") + 1000, "{series}");

    let said = run(&["lan", "ping", "nobody", "--for", "5s", "--medium", &medium], SECRET);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("no peer is called \"nobody\", out of 1"), "{said:?}");

    let args = ["lan", "ping", "-n", "4", "--interval", "2s", "--timeout", "200ms", "--for", "2m"];
    let mut ping = Running::of(command(&[&args[..], &["--medium", &medium]].concat(), SECRET));
    ping.tells("pinging 1 peers");
    // Before the last of them, which is six seconds later.
    listener.signal(Signal::SIGSTOP);
    let line = ping.line();
    listener.signal(Signal::SIGCONT);
    let counts = line.split_once("): ").unwrap().1.split(';').next().unwrap();
    let numbers: Vec<u64> = counts.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] + numbers[1] == 4 && numbers[1] > 0, "{line}");
    drop(listener);
    let medium = address(free_port(), &ports[..1]);
    let said = run(&["lan", "ping", "--for", "100ms", "--medium", &medium], SECRET);
    assert!(said.code == Some(1) && said.err.contains("nobody else was found"), "{said:?}");
}

#[test]
fn doctor_names_another_secret_and_a_port_without_a_program() {
    let ports = [free_port(), free_port(), free_port()];
    let _listener = listener(&address(ports[0], &[]));
    let medium = address(ports[1], &[ports[0], ports[2]]);
    let said = run(&["lan", "doctor", "--json", "--medium", &medium], "another secret altogether");
    let report = json(&said.out);
    let [(status, text, remedy)] = findings(&report, "medium")[..] else { panic!("{report:#}") };
    assert_eq!((said.code, status), (Some(0), "warn"), "{report:#}");
    assert!(text.contains("1 processes") && text.contains("another secret"), "{text}");
    assert!(remedy.contains("AETHER_LAN_SECRET_FILE"), "{remedy}");
    let found = findings(&report, "ports");
    let open = format!("tcp/127.0.0.1:{} takes connections", ports[0]);
    assert!(found.iter().any(|(status, text, _)| *status == "ok" && *text == open), "{report:#}");
    let closed = format!("tcp/127.0.0.1:{} refuses", ports[2]);
    let (status, _, remedy) = found.iter().find(|(_, text, _)| text.starts_with(&closed)).unwrap();
    assert!(*status == "warn" && remedy.contains(&format!("0.0.0.0:{}", ports[2])), "{report:#}");
    assert!(findings(&report, "multicast")[0].1.contains("off by the address"), "{report:#}");
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let medium = address(free_port(), &[]);
    let output = aether(&["lan", "doctor", "--medium", &medium]).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(out.contains("FAIL  medium") && out.contains("-> make a secret"), "{out}");

    for (setting, value) in [("prefix", "shop"), ("wire", "cloudevents")] {
        let option = format!("--{setting}");
        for args in [
            &["listen", ">", &option, value, "--medium", &medium][..],
            &["lan", "peers", &option, value, "--medium", &medium],
        ] {
            let said = run(args, SECRET);
            assert_eq!(said.code, Some(2), "{said:?}");
            assert!(said.err.contains(&format!("a local network has no {setting}")), "{said:?}");
        }
    }
    let output = command(&["listen", ">", "--medium", &medium], SECRET).env("AETHER_PREFIX", "shop").output();
    assert_eq!(output.unwrap().status.code(), Some(2));

    // All files of TLS or none.
    for args in [
        &["lan", "router", "--ca", "ca.pem"][..],
        &["lan", "peers", "--certificate", "own.pem", "--ca", "ca.pem"],
    ] {
        let said = run(args, SECRET);
        assert!(said.code == Some(2) && said.err.contains("--certificate"), "{said:?}");
    }
    let said = run(&["lan", "ping", "--medium", "nats://127.0.0.1:4222"], SECRET);
    assert!(said.code == Some(2) && said.err.contains("is not a local network"), "{said:?}");
    for endpoint in ["127.0.0.1:0", "nowhere", "127.0.0.1:7447&insecure"] {
        let said = run(&["lan", "router", "--listen", endpoint, "--no-multicast"], SECRET);
        assert!(said.code == Some(2) && said.err.contains(endpoint), "{said:?}");
    }
}

#[test]
fn a_router_connects_two_that_do_not_know_each_other() {
    let place = format!("127.0.0.1:{}", free_port());
    let by_router = format!("lan:?router={place}");
    // It needs no secret.
    let mut router = Running::of(aether(&["lan", "router", "--listen", &place, "--no-multicast"]));
    assert_eq!(router.line(), format!("listening on tcp/{place}"));
    let _listener = listener(&by_router);
    assert!(router.line().starts_with("came  process "));
    let patient = ["--for", "2m", "--timeout", "2m", "--medium", &by_router];
    let said = run(&[&["lan", "ping", "aether-listen", "-n", "3"][..], &patient].concat(), SECRET);
    assert!(said.code == Some(0) && said.out.contains(": 3 answered, 0 lost; round trip min "), "{said:?}");
    let came = router.line();
    let (_, process) = came.split_once("came  ").unwrap();
    assert_eq!(router.line(), format!("left  {process}"));
    router.signal(Signal::SIGTERM);
    let (said, _) = router.end();
    let terms = sum(said.out.split(';').next().unwrap());
    assert_eq!((said.code, term(&terms, "came"), term(&terms, "left")), (Some(0), 2, 1), "{said:?}");
}

/// Two machines on a cable: a listener on the right one, and the output of the doctor on the left one.
#[cfg(target_os = "linux")]
mod between_machines {
    use aether_conformance::{Cable, End};

    use super::*;

    fn on(cable: &Cable, end: End, args: &[&str]) -> Command {
        let mut command = cable.command(end, assert_cmd::cargo::cargo_bin!("aether"));
        command.args(args).env("AETHER_LAN_SECRET", SECRET).env("AETHER_MEDIUM", "lan:");
        command
    }

    /// `None` where there can be no cable. The cable is blocked before anybody is there.
    fn report(block: impl FnOnce(&Cable)) -> Option<(Option<i32>, Value)> {
        let cable = Cable::lay().unwrap_or_else(|error| panic!("{error}"))?;
        block(&cable);
        let mut listener = Running::of(on(&cable, End::Right, &["listen", "orders.>"]));
        listener.tells("listening on orders.>");
        let output = on(&cable, End::Left, &["lan", "doctor", "--json"]).output().unwrap();
        Some((output.status.code(), json(std::str::from_utf8(&output.stdout).unwrap())))
    }

    #[test]
    fn doctor_sees_multicast_pass_between_two_machines() {
        let Some((code, report)) = report(|_| {}) else { return };
        assert_eq!(code, Some(0), "{report:#}");
        let text = |check| findings(&report, check)[0].1.to_owned();
        assert!(text("interfaces").contains("cable (10.77.0.1)"), "{report:#}");
        assert!(text("medium").starts_with("lan: 1 peers: aether-listen on "), "{report:#}");
        assert_eq!(text("multicast"), "1 others answer on cable", "{report:#}");
        assert!(text("ports").contains("tcp/10.77.0.1:"), "{report:#}");
        assert_eq!(report["warn"], 0, "{report:#}");
    }

    #[test]
    fn doctor_names_a_network_that_blocks_multicast_between_machines() {
        let block = |cable: &Cable| {
            for (end, other) in [(End::Left, "10.77.0.2"), (End::Right, "10.77.0.1")] {
                cable.block(end, &format!("ip saddr {other} ip daddr 224.0.0.0/4")).unwrap();
            }
        };
        let Some((_, report)) = report(block) else { return };
        let (status, text, remedy) = findings(&report, "multicast")[0];
        assert!(status == "warn" && text.contains("comes back"), "{report:#}");
        assert!(remedy.contains("lan:?peer="), "{report:#}");
        assert_eq!(findings(&report, "medium")[0].0, "warn", "{report:#}");
    }

    #[test]
    fn doctor_names_a_firewall_before_the_tcp_ports_of_a_process_that_answers() {
        let block = |cable: &Cable| {
            for end in [End::Left, End::Right] {
                cable.block(end, "meta l4proto tcp").unwrap();
            }
        };
        let Some((_, report)) = report(block) else { return };
        assert_eq!(findings(&report, "multicast")[0].1, "1 others answer on cable", "{report:#}");
        let ports = findings(&report, "ports");
        let blocked = ports.iter().find(|(_, text, _)| text.contains("none of its TCP ports can be reached"));
        let (status, text, remedy) = blocked.unwrap_or_else(|| panic!("{report:#}"));
        assert!(*status == "warn" && text.contains("10.77.0.2"), "{report:#}");
        assert!(remedy.starts_with("open them in the firewall of that machine"), "{report:#}");
    }
}
