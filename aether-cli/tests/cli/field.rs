//! `aether field` over a real NATS server: a replica that stays, and commands that come and go.

use aether_core::conformance::NatsServer;
use nix::sys::signal::Signal;

use crate::process::{Running, run};

#[tokio::test]
async fn a_replica_that_stays_keeps_what_commands_write() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("home.field");
    let store = store.to_str().unwrap();
    let field = |args: &[&str]| run(&[&["field"], args, &["--medium", &url]].concat());

    let nobody = field(&["get", "home", "lamp", "--timeout", "200ms"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.err.contains("no other replica of the field answered within 200ms"), "{nobody:?}");

    let keep = ["field", "keep", "home", "--store", store, "--medium", &url];
    let mut keeper = Running::start(&keep);
    keeper.tells("keeps 0 entries");
    let set = field(&["set", "home", "lamp/1", "{\"on\":true}"]);
    assert_eq!((set.code, set.out.as_str()), (Some(0), ""), "{set:?}");
    assert_eq!(field(&["get", "home", "lamp/1"]).out, "{\"on\":true}\n");
    assert_eq!(field(&["set", "home", "lamp/2", "1"]).code, Some(0));
    assert_eq!(field(&["rm", "home", "lamp/2"]).code, Some(0));
    let missing = field(&["get", "home", "lamp/2"]);
    assert_eq!((missing.code, missing.out.as_str()), (Some(1), ""), "{missing:?}");
    let null = field(&["set", "home", "lamp/3", "null"]);
    assert!(null.err.contains("a field holds no null; remove \"lamp/3\" instead"), "{null:?}");
    assert!(field(&["peers", "home"]).out.contains("aether-field"));

    // Killed without warning, it has everything again.
    keeper.signal(Signal::SIGKILL);
    drop(keeper);
    let mut keeper = Running::start(&keep);
    // The removal is kept as well, as a mark.
    keeper.tells("keeps 2 entries");
    assert_eq!(
        field(&["export", "home"]).out,
        "{\"kind\":\"set\",\"key\":\"lamp/1\",\"value\":{\"on\":true}}\n"
    );

    let file = folder.path().join("ledger.jsonl");
    std::fs::write(
        &file,
        "{\"kind\":\"set\",\"key\":\"x\",\"value\":7,\"stamp\":{\"p\":1,\"l\":0,\"n\":\"a\"}}\n",
    )
    .unwrap();
    let import = field(&["import", "home", file.to_str().unwrap()]);
    assert!(import.err.contains("imported 1 registers, 0 removals; 0 lines skipped"), "{import:?}");
    assert_eq!(field(&["get", "home", "x"]).out, "7\n");
    keeper.signal(Signal::SIGINT);
    let (said, _) = keeper.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with("field: 3 entries"), "{said:?}");
}
