//! `aether bridge` between two real NATS servers.

use aether_conformance::NatsServer;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::nats::{listener, server, with};
use crate::process::{Running, run, sum, term};

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_relays_survives_an_outage_and_prints_what_became_of_all_waves() {
    let (_edge, edge_medium) = server().await;
    let mut hub = NatsServer::start().await.unwrap();
    let hub_medium = ["--medium".to_owned(), hub.url()];
    let (edge_url, hub_url) = (edge_medium[1].as_str(), hub.url());
    let args = ["bridge", edge_url, &hub_url, "--relay", "sensors.>", "alarms.>", "--there-rule"];
    let rules = ["thermometer: emit sensors.>", "--there-rule", "aether-bridge: listen >"];
    let mut bridge = Running::start(&[&args[..], &rules].concat());
    bridge.tells("relaying sensors.> alarms.> between");

    let mut hears = listener(&["sensors.>", "--json", "--count", "1"], &hub_medium);
    for name in ["stranger", "thermometer"] {
        let emitted = run(&with(&["emit", "sensors.attic", "21.5", "--name", name], &edge_medium));
        assert_eq!(emitted.code, Some(0), "{}", emitted.err);
    }
    let heard: Value = serde_json::from_str(&hears.line()).unwrap();
    assert_eq!((&heard["source"], &heard["hops"]), (&"thermometer".into(), &1.into()));
    hears.end();

    hub.kill().await.unwrap();
    bridge.tells("is away");
    hub.restart().await.unwrap();
    bridge.tells("is there");
    bridge.signal(Signal::SIGTERM);
    let (said, _) = bridge.end();
    assert_eq!(said.code, Some(0), "{}", said.err);
    let way = said.out.lines().find(|line| line.starts_with(&format!("{edge_url} to {hub_url}: "))).unwrap();
    let terms = sum(&way[way.find("waves: ").unwrap()..]);
    assert_eq!((term(&terms, "heard"), term(&terms, "relayed")), (2, 1), "{way}");
    assert_eq!(term(&terms, "not allowed"), 1, "{way}");
    assert!(said.out.contains(&format!("sent to {hub_url}: waves: 1 emitted = ")), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_prints_its_account_as_json_and_ends_while_it_waits_for_a_side() {
    let (_edge, edge) = server().await;
    let (mut hub, hub_medium) = server().await;
    let args =
        ["bridge", &edge[1], &hub_medium[1], "--relay", ">", "--one-way", "--group", "edge-hub", "--json"];
    let mut bridge = Running::start(&args);
    bridge.tells("relaying > between");
    bridge.signal(Signal::SIGINT);
    let (said, _) = bridge.end();
    assert_eq!(said.code, Some(0), "{}", said.err);
    let account: Value = serde_json::from_str(said.out.trim()).unwrap();
    assert_eq!(account["ways"][0]["from"], edge[1].as_str());
    assert_eq!((account["ways"][1].clone(), &account["ways"][0]["relayed"]), (Value::Null, &0.into()));

    hub.kill().await.unwrap();
    let mut bridge = Running::start(&args);
    bridge.tells("the server does not answer; retrying");
    bridge.signal(Signal::SIGINT);
    assert_eq!(bridge.end().0.code, Some(1));
}

#[test]
fn what_is_no_bridge_is_wrong_usage() {
    let url = "nats://127.0.0.1:1";
    for (args, says) in [
        (&["local:", url, "--relay", "a"][..], "name two media"),
        (&[url, url, "--relay", "a"], "both sides are the same medium"),
        (&[url, "nats://127.0.0.1:2"], "--relay"),
        (&[url, "nats://127.0.0.1:2", "--relay", "a", "--hops", "11"], "1..=10"),
        (&[url, "nats://127.0.0.1:2", "--relay", "a", "--here-rule", "shop: sing"], "IDENTITY: emit PATTERN"),
    ] {
        let said = run(&[&["bridge"], args].concat());
        assert_eq!(said.code, Some(2), "{args:?}: {}", said.err);
        assert!(said.err.contains(says), "{args:?}: {}", said.err);
    }
}
