//! `aether report`: the archive of a gateway, while it runs and after its end.

use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, InboxOptions, Vibrator, WhenFull};
use serde_json::Value;

use crate::nats::with;
use crate::process::{Running, run};
use crate::up::{address, get};

fn overview(address: &str) -> Value {
    let answer = get(address, "/api/overview");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_has_seen_is_reported_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("history.redb");
    let archive = archive.to_str().unwrap();
    let missing = run(&["report", archive]);
    assert_eq!((missing.code, missing.out.as_str()), (Some(1), ""));
    assert!(missing.err.contains("there is no archive"), "{}", missing.err);

    let server = NatsServer::start().await.unwrap();
    let medium = ["--medium".to_owned(), server.url()];
    let args = ["gateway", "--listen", "127.0.0.1:0", "--archive", archive];
    let mut gateway = Running::start(&with(&args, &medium));
    let line = gateway.line();
    let address = address(&line);
    let emitted = run(&with(&["emit", "orders.created", "1", "--count", "3"], &medium));
    assert_eq!(emitted.code, Some(0), "{}", emitted.err);
    while overview(address)["flow"]["waves"].as_u64() < Some(3) {
        std::thread::yield_now();
    }
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(gateway.end().0.code, Some(0));

    let said = run(&["report", archive, "--since", "1h"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    for line in ["waves: 3, ", "lost: nothing", "incidents: none"] {
        assert!(said.out.lines().any(|printed| printed.starts_with(line)), "{line}: {}", said.out);
    }
    let report: Value = serde_json::from_str(&run(&["report", archive, "--json"]).out).unwrap();
    assert_eq!((&report["waves"], &report["lost_waves"]), (&3.into(), &0.into()));
    // A span is a minute. A gateway that takes longer on a busy machine has more of them.
    let spans = report["spans"].as_array().unwrap().iter().map(|span| span["waves"].as_u64().unwrap());
    assert_eq!(spans.sum::<u64>(), 3, "{report}");
    assert_eq!(run(&["report", archive, "--since", "yesterday"]).code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_of_two_gateways_in_turn_are_reported_with_accounts_that_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("history.redb");
    let archive = archive.to_str().unwrap();
    let server = NatsServer::start().await.unwrap();
    let medium = ["--medium".to_owned(), server.url()];
    let args = ["gateway", "--no-physics", "--listen", "127.0.0.1:0", "--archive", archive];
    let mut process = None;
    let (mut lost, mut emitted) = (0, 0);
    for waves in [10, 20] {
        let mut gateway = Running::start(&with(&args, &medium));
        let line = gateway.line();
        let address = address(&line);
        let is_known = |lost: u64| {
            let view = overview(address);
            let programs = view["programs"].as_array().unwrap();
            let till = programs.iter().find(|program| program["program"] == "till");
            till.filter(|till| till["inboxes"]["shed"]["full"].as_u64() == Some(lost))
                .map(|_| view["second"].as_u64().unwrap())
        };
        let (aether, _till) = match &process {
            None => process.insert(till(&server).await),
            Some(process) => {
                // The second gateway counts from where it has read this program first, which is within a second.
                let known = loop {
                    match is_known(lost) {
                        Some(second) => break second,
                        None => std::thread::yield_now(),
                    }
                };
                while overview(address)["second"].as_u64() < Some(known + 2) {
                    std::thread::yield_now();
                }
                process
            }
        };
        let shop = aether.emitter("shop").unwrap();
        for _ in 0..waves {
            shop.emit_bytes("orders.created", "x").await.unwrap();
        }
        aether.flush().await.unwrap();
        emitted += waves;
        // Two fit.
        lost = emitted - 2;
        while is_known(lost).is_none() {
            std::thread::yield_now();
        }
        gateway.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(gateway.end().0.code, Some(0));
    }
    let said = run(&["report", archive, "--since", "1d"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    for line in [
        "waves: 30, ",
        "lost: 28 waves",
        "          28  till inbox: full",
        "till inbox: 30 offered = 0 delivered + 28 lost + 2 more queued",
        "till outbox: 30 offered = 30 delivered + 0 lost + 0 more queued",
    ] {
        assert!(said.out.lines().any(|printed| printed.starts_with(line)), "{line}: {}", said.out);
    }
    let report: Value = serde_json::from_str(&run(&["report", archive, "--json"]).out).unwrap();
    let accounts = report["accounts"].as_array().unwrap();
    let number = |account: &Value, name: &str| account[name].as_i64().unwrap();
    for account in accounts {
        let sum = ["delivered", "lost", "queued"].map(|name| number(account, name)).iter().sum::<i64>();
        assert_eq!(number(account, "offered"), sum, "{account}");
    }
    let all = accounts.iter().map(|account| number(account, "lost")).sum::<i64>();
    assert_eq!(report["lost_waves"].as_i64(), Some(all));
    // Two gateways that start in the same second share a span.
    let spans = report["spans"].as_array().unwrap().iter().flat_map(|span| span["lost"].as_array().unwrap());
    assert_eq!(spans.map(|lost| number(lost, "waves")).sum::<i64>(), all);
}

/// A process that sheds all but two waves.
async fn till(server: &NatsServer) -> (Aether, Vibrator) {
    let every = Some(Duration::from_millis(100));
    let aether =
        aether::builder().url(server.url()).program("till").account_every(every).connect().await.unwrap();
    let inbox = InboxOptions::overload().max_waves(2).when_full(WhenFull::Shed).sojourn_cap(None);
    let till = Vibrator::builder("till").inbox(inbox).create(&aether).await.unwrap();
    till.resonate_on("orders.*").await.unwrap();
    (aether, till)
}
