//! The pages of the gateway in a real browser, driven by playwright-core: `pages.test.mjs`.
//!
//! `AETHER_PICTURES=FOLDER` makes it write a picture of each page, too, and the pictures of the README.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability, Kind, Vibrator, Wave};
use aether_log::{Consumer, ConsumerOptions, Delivery, DurableLog, JetStreamLog, Log, Schedule};
use aether_service::{CancellationToken, Durable, Service};
use tokio::process::Command;

/// A Node; `cargo xtask tools` finds one. `none` skips what needs it.
const NODE: &str = "AETHER_NODE";
const CHROMIUM: &str = "AETHER_CHROMIUM";
/// The folder with the packages of `package.json`; `cargo xtask tools` installs them.
const MODULES: &str = "AETHER_NODE_MODULES";
const PATIENCE: Duration = Duration::from_secs(180);

/// A command that runs the tests of a file in this folder beside the tests, unless a tool for that is switched off.
pub(crate) fn tests_in_a_browser(folder: &str, file: &str) -> Option<Command> {
    let (node, chromium, modules) = (path(NODE)?, path(CHROMIUM)?, path(MODULES)?);
    let mut command = Command::new(node);
    // Each test has a bound of its own, so the file needs none.
    command.arg("--test-reporter=spec");
    if let Ok(name) = std::env::var("AETHER_PAGE_TEST") {
        command.arg(format!("--test-name-pattern={name}"));
    }
    command.arg(file).stdin(Stdio::null()).kill_on_drop(true);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite").join(folder));
    command.env("AETHER_PROGRAM", env!("CARGO_BIN_EXE_aether")).env(CHROMIUM, chromium).env(MODULES, modules);
    for name in ["AETHER_MEDIUM", "AETHER_PREFIX", "AETHER_LOG", "AETHER_WAVES_TOKEN", "NODE_OPTIONS"] {
        command.env_remove(name);
    }
    Some(command)
}

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
    let aether = aether::connect(url).await.unwrap();
    let closed = async || Err::<(), _>(std::io::Error::other("the bank is closed"));
    let service =
        Service::builder("till").on("orders.*", closed).with_letters().build(&aether).await.unwrap();
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    let running = tokio::spawn(async move { assert!(service.run_until(ended).await.unwrap().adds_up()) });
    let shops = aether::connect(url).await.unwrap();
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
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    for number in 0..120 {
        shop.emit_wave("orders.created", &number).await.unwrap();
    }
    let billing = log.consumer("billing", "orders.>", once()).unwrap();
    billing.receive().await.unwrap().nack("the bank is closed");
    for _ in 0..99 {
        billing.receive().await.unwrap().ack().await.unwrap();
    }
    let audit = log.consumer("audit", ">", ConsumerOptions::default()).unwrap();
    (log, aether, [billing, audit])
}

/// A log in JetStream whose consumer has acknowledged 10 of 30 waves, another one has only begun, and a third has given
/// up the wave of another channel.
async fn stored_in_jetstream(url: &str) -> (JetStreamLog, Aether) {
    let log = JetStreamLog::builder(url, "depot").channels("parts.>", Durability::Stored).unwrap();
    let log = log.open().await.unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let depot = aether.emitter("depot").unwrap();
    for number in 0..30 {
        depot.emit_wave("parts.moved", &number).await.unwrap();
    }
    let picking = log.consumer("picking", "parts.moved", ConsumerOptions::default()).unwrap();
    for _ in 0..10 {
        picking.receive().await.unwrap().ack().await.unwrap();
    }
    let gone = log.consumer("gone", "parts.moved", ConsumerOptions::default()).unwrap();
    gone.receive().await.unwrap().ack().await.unwrap();
    depot.emit_wave("parts.lost", &"a screw").await.unwrap();
    let searching = log.consumer("searching", "parts.lost", once()).unwrap();
    searching.receive().await.unwrap().nack("not under the table");
    let held = given_up(&searching, async || log.dead().numbers().await.unwrap().len()).await;
    assert!(held.is_empty(), "there is one wave");
    (log, aether)
}

/// A wave is given up at its first failure.
fn once() -> ConsumerOptions {
    ConsumerOptions::default().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO)
}

/// Waits until a consumer has given up a wave, which happens while the next one is waited for. Returns those that came
/// meanwhile.
async fn given_up(consumer: &Consumer, letters: impl AsyncFn() -> usize) -> Vec<Delivery> {
    let mut held = Vec::new();
    let kept = async {
        while letters().await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut kept = std::pin::pin!(tokio::time::timeout(PATIENCE, kept));
    loop {
        // Giving up is not cut off, however long it takes.
        tokio::select! {
            next = consumer.receive() => held.push(next.unwrap()),
            in_time = &mut kept => break in_time.expect("the letter"),
        }
    }
    held
}

/// Keeps a log open, and its consumer in use.
type Owner = (Log, Consumer, Vec<Delivery>);

/// A program with a log in this folder that answers for it. One of its consumers has given up a wave and is in use,
/// another one is not used any more.
async fn owner(folder: &Path, url: &str) -> (Owner, Aether, tokio::task::JoinHandle<()>, CancellationToken) {
    let log = Log::builder(folder).channels("bills.>", Durability::Stored).unwrap().open().unwrap();
    let aether = log.connect(aether::builder().url(url)).await.unwrap();
    let service = Service::builder("bills").on("bills.asked", async || {}).with_letters();
    let service = service.build(&aether).await.unwrap();
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    let running = tokio::spawn(async move { assert!(service.run_until(ended).await.unwrap().adds_up()) });
    let emitter = aether.emitter("billing").unwrap();
    for number in 0..3 {
        emitter.emit_wave("bills.sent", &number).await.unwrap();
    }
    let sending = log.consumer("sending", "bills.>", once()).unwrap();
    sending.receive().await.unwrap().nack("no stamps");
    let held = given_up(&sending, async || log.dead().len()).await;
    let idle = log.consumer("idle", "bills.>", ConsumerOptions::default()).unwrap();
    idle.receive().await.unwrap().ack().await.unwrap();
    drop(idle);
    ((log, sending, held), aether, running, shutdown)
}

/// A program with a log in this folder, whose service has a wave that pauses after a failure, one that is in flight, and a
/// schedule.
async fn post(folder: &Path, url: &str) -> (Aether, tokio::task::JoinHandle<()>, CancellationToken) {
    let log = Log::builder(folder).channels("mail.>", Durability::Stored).unwrap().open().unwrap();
    let log = DurableLog::from(log);
    let aether = log.connect(aether::builder().url(url)).await.unwrap();
    let hour = Duration::from_secs(3600);
    let options = ConsumerOptions::default().pauses(hour, hour);
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    let send = move |wave: Wave| {
        let ended = ended.clone();
        async move {
            if matches!(wave.text(), Ok("bad")) {
                return Err(std::io::Error::other("no such address"));
            }
            ended.cancelled().await;
            Ok(())
        }
    };
    let service =
        Service::builder("post").on_durable("mail.*", Durable::consumer("mailer").options(options), send);
    let service = service.with_letters().build(&aether).await.unwrap();
    let running = service.run_until(shutdown.clone());
    let running = tokio::spawn(async move {
        running.await.unwrap();
    });
    let shop = aether.emitter("shop").unwrap();
    let mail = |key: &str, text: &str| Wave::builder("mail.send").key(key).text(text).build().unwrap();
    shop.emit(mail("17", "bad")).await.unwrap();
    shop.emit(mail("18", "slow")).await.unwrap();
    let nightly = Schedule::cron("0 3 * * *", "Europe/Berlin").unwrap();
    log.schedules().put("nightly", nightly, mail("19", "report")).await.unwrap();
    let mailer = log.consumers().remove(0);
    let taken = async {
        loop {
            let queue = mailer.queue().await.unwrap();
            if (queue.retrying, queue.in_flight) == (1, 1) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("both waves were taken");
    (aether, running, shutdown)
}

/// The trace of the waves that follow.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// One vibrator emits at times that nobody could know, and another one follows, a little later and without naming a cause.
async fn follower(url: &str) -> Aether {
    let aether = aether::connect(url).await.unwrap();
    let mut follower = Vibrator::create("follower", &aether).await.unwrap();
    follower.resonate_on("guess.first").await.unwrap();
    let leader = aether.emitter("leader").unwrap();
    tokio::spawn(async move {
        // Ends with the bus.
        let mut odd = 1_u64;
        while leader.emit_wave("guess.first", &1).await.is_ok() {
            odd = odd.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            tokio::time::sleep(Duration::from_millis(20 + (odd >> 33) % 200)).await;
        }
    });
    tokio::spawn(async move {
        while follower.receive().await.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let wave = Wave::builder("guess.second").json(1).trace_context(TRACE.parse().unwrap());
            let wave = wave.build().unwrap();
            if follower.emit(wave).await.is_err() {
                break;
            }
        }
    });
    aether
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_work_in_a_real_browser() {
    let Some(mut command) = tests_in_a_browser("page", "pages.test.mjs") else { return };
    let streams = tempfile::tempdir().unwrap();
    let server = NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap();
    let _depot = stored_in_jetstream(&server.url()).await;
    let (aether, running, shutdown) = till(&server.url()).await;
    let guessing = follower(&server.url()).await;
    let own = tempfile::tempdir().unwrap();
    let (_owner, owning, own_running, own_shutdown) = owner(&own.path().join("bills"), &server.url()).await;
    let (posting, post_running, post_shutdown) = post(&own.path().join("mail"), &server.url()).await;
    let logs = tempfile::tempdir().unwrap();
    let _open = stored(logs.path()).await;
    command.env("AETHER_LETTERS_MEDIUM", server.url());
    command.env("AETHER_LOGS", logs.path()).env("AETHER_OWN_LOG", own.path().join("bills"));
    let status = command.status().await.unwrap();
    assert!(status.success(), "{status}");
    for (shutdown, running, aether) in [
        (shutdown, running, aether),
        (own_shutdown, own_running, owning),
        (post_shutdown, post_running, posting),
    ] {
        shutdown.cancel();
        running.await.unwrap();
        aether.close().await.unwrap();
    }
    guessing.close().await.unwrap();
}
