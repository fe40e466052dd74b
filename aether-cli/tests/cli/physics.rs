//! The service map and the findings of real processes over a real NATS server.

use aether_core::{Aether, Vibrator, Wave};
use serde_json::Value;

use crate::nats::{server, with};
use crate::process::{Running, run};

/// A shop whose orders a stock reserves, `orders` of them, one after the other.
async fn trade(url: &str, orders: usize) {
    let (one, other) = (Aether::connect(url).await.unwrap(), Aether::connect(url).await.unwrap());
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
    let mut physics = Running::start(&with(&["physics", "--every", "50ms"], &medium));
    physics.tells("watching >");
    trade(&medium[1], 20).await;
    let line = physics.line();
    assert!(line.starts_with("related: orders.created -> stock.reserved after "), "{line}");
    assert!(line.ends_with("by stock)"), "{line}");
    for running in [physics, map] {
        running.signal(SIGINT);
        let (said, _) = running.end();
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

#[test]
fn without_a_server_it_says_what_to_do() {
    for command in ["map", "physics"] {
        let said = run(&[command]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("Start a NATS server"), "{}", said.err);
    }
}
