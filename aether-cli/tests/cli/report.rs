//! `aether report`: the archive of a gateway, while it runs and after its end.

use aether_core::conformance::NatsServer;
use serde_json::Value;

use crate::nats::with;
use crate::process::{Running, run};
use crate::up::{address, get};

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
    let waves = || {
        let answer = get(address, "/api/overview");
        let overview: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        overview["flow"]["waves"].as_u64().unwrap()
    };
    while waves() < 3 {
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
    assert_eq!(report["spans"].as_array().unwrap().len(), 1);
    assert_eq!(run(&["report", archive, "--since", "yesterday"]).code, Some(2));
}
