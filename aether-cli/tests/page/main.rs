//! The pages of the gateway in a real browser, driven by playwright-core: `pages.test.mjs`.
//!
//! `AETHER_PICTURES=FOLDER` makes it write a picture of each page, too, and those of the README.
#![allow(clippy::unwrap_used)] // in helpers too: a failed unwrap is a failed test

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aether_chassis::{CancellationToken, Service};
use aether_core::conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability, Kind, Wave};
use aether_log::{Consumer, ConsumerOptions, JetStreamLog, Log};
use tokio::process::Command;

/// A Node; `cargo xtask tools` finds one. `none` skips what needs it.
const NODE: &str = "AETHER_NODE";
const CHROMIUM: &str = "AETHER_CHROMIUM";
/// The folder with the packages of `package.json`; `cargo xtask tools` installs them.
const MODULES: &str = "AETHER_NODE_MODULES";
const PATIENCE: Duration = Duration::from_secs(60);

fn path(name: &str) -> Option<String> {
    let path = std::env::var(name).unwrap_or_else(|_| {
        panic!("set {name} to the path that `cargo xtask tools` prints, or to `none` to skip this")
    });
    if path == "none" {
        eprintln!("skipped: {name} is none");
        return None;
    }
    Some(path)
}

/// A service that has failed at two commands and keeps them.
async fn till(url: &str) -> (Aether, tokio::task::JoinHandle<()>, CancellationToken) {
    let aether = Aether::connect(url).await.unwrap();
    let closed = async || Err::<(), _>(std::io::Error::other("the bank is closed"));
    let service =
        Service::builder("till").on("orders.*", closed).with_letters().build(&aether).await.unwrap();
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    let running = tokio::spawn(async move { assert!(service.run_until(ended).await.unwrap().adds_up()) });
    let shops = Aether::connect(url).await.unwrap();
    let shop = shops.emitter("shop").unwrap();
    for channel in ["orders.lamp", "orders.chair"] {
        let wave = Wave::builder(channel).kind(Kind::Command).bytes("{\"n\": 12345678901234567890}");
        shop.emit(wave.build().unwrap()).await.unwrap();
    }
    shops.flush().await.unwrap();
    shops.close().await.unwrap();
    let letters = aether.dead_letters();
    let kept = async {
        while letters.counts().kept < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.expect("the letters");
    (aether, running, shutdown)
}

/// Below this folder a log whose consumer has settled 100 of 120 waves, one of them as a dead letter, and one that nobody
/// reads.
async fn stored(root: &Path) -> (Log, Aether, [Consumer; 2]) {
    let log = Log::builder(root.join("shop")).channels("orders.>", Durability::Stored).unwrap();
    let log = log.open().unwrap();
    let aether = log.connect(Aether::builder().url("local:")).await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    for number in 0..120 {
        shop.emit_wave("orders.created", &number).await.unwrap();
    }
    let once =
        ConsumerOptions::default().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO);
    let billing = log.consumer("billing", "orders.>", once).unwrap();
    billing.receive().await.unwrap().nack("the bank is closed");
    for _ in 0..99 {
        billing.receive().await.unwrap().ack().await.unwrap();
    }
    let audit = log.consumer("audit", ">", ConsumerOptions::default()).unwrap();
    (log, aether, [billing, audit])
}

/// A log in JetStream whose consumer has acknowledged 10 of 30 waves.
async fn stored_in_jetstream(url: &str) -> (JetStreamLog, Aether) {
    let log = JetStreamLog::builder(url, "depot").channels("parts.>", Durability::Stored).unwrap();
    let log = log.open().await.unwrap();
    let aether = log.connect(Aether::builder().url("local:")).await.unwrap();
    for number in 0..30 {
        aether.emitter("depot").unwrap().emit_wave("parts.moved", &number).await.unwrap();
    }
    let picking = log.consumer("picking", "parts.>", ConsumerOptions::default()).unwrap();
    for _ in 0..10 {
        picking.receive().await.unwrap().ack().await.unwrap();
    }
    (log, aether)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_work_in_a_real_browser() {
    let (Some(node), Some(chromium)) = (path(NODE), path(CHROMIUM)) else { return };
    let Some(modules) = path(MODULES) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let streams = tempfile::tempdir().unwrap();
    let server = NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap();
    let _depot = stored_in_jetstream(&server.url()).await;
    let (aether, running, shutdown) = till(&server.url()).await;
    let logs = tempfile::tempdir().unwrap();
    let _open = stored(logs.path()).await;
    let mut command = Command::new(node);
    // Each test has a bound of its own, so the file needs none.
    command.arg("--test-reporter=spec").current_dir(&folder);
    if let Ok(name) = std::env::var("AETHER_PAGE_TEST") {
        command.arg(format!("--test-name-pattern={name}"));
    }
    command.arg("pages.test.mjs").stdin(Stdio::null()).kill_on_drop(true);
    command.env("AETHER_PROGRAM", env!("CARGO_BIN_EXE_aether")).env(CHROMIUM, chromium);
    command.env("AETHER_LETTERS_MEDIUM", server.url()).env(MODULES, modules);
    command.env("AETHER_LOGS", logs.path());
    for name in ["AETHER_MEDIUM", "AETHER_PREFIX", "AETHER_LOG", "AETHER_WAVES_TOKEN", "NODE_OPTIONS"] {
        command.env_remove(name);
    }
    let status = command.status().await.unwrap();
    assert!(status.success(), "{status}");
    shutdown.cancel();
    running.await.unwrap();
    aether.close().await.unwrap();
}
