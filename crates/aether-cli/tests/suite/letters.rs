//! Dead letters of a running service, listed, shown, replayed and dropped from a shell, over a real NATS server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aether_core::{Aether, Kind, Wave};
use aether_service::{CancellationToken, Service, State};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::nats::{server, with};
use crate::process::{PATIENCE, run};

/// A service that fails at payments until its bank works.
struct Till {
    aether: Aether,
    bank_works: Arc<AtomicBool>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

async fn pay(State(works): State<Arc<AtomicBool>>) -> Result<(), std::io::Error> {
    if works.load(Ordering::Relaxed) { Ok(()) } else { Err(std::io::Error::other("the bank is closed")) }
}

impl Till {
    async fn open(url: &str) -> Self {
        let (aether, bank_works) = (aether::connect(url).await.unwrap(), Arc::new(AtomicBool::new(false)));
        let builder = Service::builder("till")
            .concurrency(1)
            .state(Arc::clone(&bank_works))
            .on("orders.*", pay)
            .with_letters();
        let service = builder.build(&aether).await.unwrap();
        let shutdown = CancellationToken::new();
        let ended = shutdown.clone();
        let running = tokio::spawn(async move { assert!(service.run_until(ended).await.unwrap().adds_up()) });
        Self { aether, bank_works, shutdown, running }
    }

    /// Commands that fail. Their source gets no echo. Returns when they are letters.
    async fn fail(&self, url: &str, channels: &[&str]) {
        let shops = aether::connect(url).await.unwrap();
        let shop = shops.emitter("shop").unwrap();
        for channel in channels {
            let wave = Wave::builder(*channel).kind(Kind::Command).amplitude(0.9).key("17");
            shop.emit(wave.bytes("{\"n\": 12345678901234567890}").build().unwrap()).await.unwrap();
            // Waves of different channels that leave together may change their order.
            shops.flush().await.unwrap();
        }
        shops.close().await.unwrap();
        let kept = async {
            while self.aether.dead_letters().counts().kept < channels.len() as u64 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, kept).await.expect("the letters");
    }

    async fn close(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
        self.aether.close().await.unwrap();
    }
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_shown_replayed_and_dropped_by_ids_that_stay() {
    let (server, medium) = server().await;
    let till = Till::open(&server.url()).await;
    till.fail(&server.url(), &["orders.pay", "orders.ship", "orders.pay"]).await;
    let letters = |args: &[&str]| run(&with(&[&["letters"], args, &["--timeout", "2m"]].concat(), &medium));
    // It ends when the one service there is has announced itself, not after a time.
    let of_till = |args: &[&str]| letters(&[args, &["--expect", "1", "--roll-call", "1m"]].concat());

    let listed = of_till(&["ls", "--json"]);
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""), "{listed:?}");
    let all = objects(&listed.out);
    let channels: Vec<_> = all.iter().map(|letter| letter["channel"].as_str().unwrap()).collect();
    assert_eq!(channels, ["orders.pay", "orders.ship", "orders.pay"]);
    for letter in &all {
        assert_eq!(
            (&letter["service"], &letter["by"], &letter["key"]),
            (&json!("till"), &json!("till"), &json!("17"))
        );
        assert_eq!(
            (&letter["reason"], &letter["hint"]),
            (&json!("handler_failed"), &json!("the bank is closed"))
        );
    }
    let ids: Vec<_> = all.iter().map(|letter| letter["id"].as_str().unwrap()).collect();

    // Filters, and the same ids again.
    let payments = of_till(&["ls", "--json", "--channel", "*.pay", "--newer", "1h"]);
    let payments: Vec<_> = objects(&payments.out).iter().map(|letter| letter["id"].clone()).collect();
    assert_eq!(payments, [ids[0], ids[2]]);
    let old = of_till(&["ls", "--older", "1h"]);
    assert_eq!((old.code, old.out.as_str(), old.err.as_str()), (Some(0), "", "0 dead letters\n"));

    let shown = letters(&["show", ids[0]]);
    assert!(shown.out.contains("amplitude  0.900") && shown.out.contains("attempt    0 failed"), "{shown:?}");
    assert!(shown.out.contains("payload    {\"n\": 12345678901234567890}"), "{shown:?}");
    let shown = letters(&["show", ids[0], "--json"]);
    assert!(shown.out.contains("12345678901234567890"), "{shown:?}");
    assert_eq!(objects(&shown.out)[0]["failed"][0]["error"], "the bank is closed");

    // Replayed, it is handled now, and gone.
    till.bank_works.store(true, Ordering::Relaxed);
    let replayed = letters(&["replay", ids[0], "--json"]);
    assert_eq!((replayed.code, &objects(&replayed.out)[0]["id"]), (Some(0), &json!(ids[0])), "{replayed:?}");
    let again = letters(&["replay", ids[0]]);
    assert_eq!((again.code, again.out.as_str()), (Some(3), ""), "{again:?}");
    assert!(again.err.contains("is gone: it was replayed") && again.err.contains("1 of 1"), "{again:?}");

    let dropped = of_till(&["drop", "--all", "--channel", "orders.ship"]);
    assert_eq!((dropped.code, dropped.out.trim()), (Some(0), ids[1]), "{dropped:?}");
    let left = of_till(&["ls"]);
    assert!(left.out.starts_with(ids[2]) && left.out.contains("till: the bank is closed"), "{left:?}");
    assert_eq!(left.err, "1 dead letters\n");

    // The letters end with their process.
    let id = ids[2].to_owned();
    till.close().await;
    let ended = letters(&["replay", &id]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.err.contains("no running service has it"), "{ended:?}");
    let nobody = letters(&["ls", "--roll-call", "100ms"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.err.contains("build it .with_letters()"), "{nobody:?}");
}
