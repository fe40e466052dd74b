//! A worker of durable jobs that is killed with `kill -9` at random moments, with a log in a folder and in JetStream.
//!
//! It does the jobs by key, each once with its effect in one transaction, and some of them fail at first, also after
//! their effect. After all kills each job was done, once, and each key in order. `AETHER_JOB_KILLS` sets the number of
//! kills.

use std::io::{BufRead as _, BufReader};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, AetherBuilder, Durability, Wave};
use aether_log::{ConsumerOptions, DurableLog, JetStreamLog, JetStreamOptions, Log};
use aether_outbox::{Redb, Store, StoreError};
use aether_service::{CancellationToken, Durable, Service, State};

mod long;

const KEYS: u64 = 5;
const OF_EACH_KEY: u64 = 20;

/// The log: at a server or a cluster of three, or without one in a folder.
async fn open(folder: &Path, server: &str) -> (DurableLog, Aether) {
    let log: DurableLog = if server.is_empty() {
        let log = Log::builder(folder.join("log")).channels("jobs.>", Durability::Stored).unwrap();
        log.open().unwrap().into()
    } else {
        let options = JetStreamOptions::default().ack_wait(Duration::from_secs(1));
        let log = JetStreamLog::builder(server, "jobs").options(options.patience(Duration::from_secs(60)));
        let level = if server.contains(',') { Durability::Replicated(3) } else { Durability::Stored };
        log.channels("jobs.>", level).unwrap().open().await.unwrap().into()
    };
    let aether = log.connect(AetherBuilder::new().url("local:")).await.unwrap();
    (log, aether)
}

fn store(folder: &Path) -> Store<Redb> {
    Store::builder("worker").open(folder.join("worker.redb")).unwrap()
}

/// Does a job once, and notes what is out of order. Jobs without a key have none.
async fn work(State(store): State<Store<Redb>>, wave: Wave) -> Result<(), std::io::Error> {
    let (id, key) = (wave.id(), wave.key().map(str::to_owned));
    // The rest makes the wave large.
    let number: u64 = wave.text().unwrap().split(' ').next().unwrap().parse().unwrap();
    let done = store.write(move |change| {
        let (last, wrong) = (change.table::<u64>("last"), change.table::<u64>("wrong"));
        let is_new = change.once(&id)?;
        if let Some(key) = key {
            let before = last.get(&key)?.unwrap_or(0);
            // The last one may come again, if its acknowledgement was cut off.
            if number != before + u64::from(is_new) {
                wrong.insert(&format!("{key}: {number} after {before}"), &1)?;
            }
            last.insert(&key, &number)?;
        }
        let effects = change.table::<u64>("effects");
        let all = effects.get("all")?.unwrap_or(0) + u64::from(is_new);
        effects.insert("all", &all)?;
        Ok::<_, StoreError>((is_new, all))
    });
    let (is_new, all) = done.await.unwrap();
    println!("\n{} {all}", if is_new { "effect" } else { "again" });
    if is_new && number % 7 == 3 { Err(std::io::Error::other("once more")) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn works_until_it_is_killed() {
    let folder = std::env::var("AETHER_JOB_FOLDER").unwrap();
    let (_log, aether) = open(folder.as_ref(), &std::env::var("AETHER_JOB_SERVER").unwrap()).await;
    // A job may be killed more often than it would be tried.
    let options = ConsumerOptions::default().max_attempts(NonZeroU32::MAX);
    let options = options.pauses(Duration::from_millis(1), Duration::from_millis(4));
    let durable = Durable::consumer("worker").options(options).by_key(4);
    let builder =
        Service::builder("worker").state(store(folder.as_ref())).on_durable("jobs.>", durable, work);
    let service = builder.build(&aether).await.unwrap();
    service.run_until(CancellationToken::new()).await.unwrap();
}

fn start(folder: &Path, server: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "service::durable_killing::works_until_it_is_killed", "--ignored", "--nocapture"])
        .env("AETHER_JOB_FOLDER", folder)
        .env("AETHER_JOB_SERVER", server)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a worker, and kills it after a number of effects.
fn run_and_kill(folder: &Path, server: &str, mut effects: u64) {
    let mut worker = start(folder, server);
    for line in BufReader::new(worker.stdout.take().unwrap()).lines() {
        if line.unwrap().starts_with("effect ") {
            effects = effects.saturating_sub(1);
            if effects == 0 {
                worker.kill().unwrap();
            }
        }
    }
    was_killed(worker);
}

fn was_killed(mut worker: Child) {
    let ended = worker.wait().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
    assert_eq!(signal, Some(9), "the worker failed by itself");
}

/// How many effects there are.
fn effects(folder: &Path) -> u64 {
    store(folder).begin().unwrap().table("effects").get("all").unwrap().unwrap_or(0)
}

async fn emit(aether: &Aether, from: u64) {
    let shop = aether.emitter("shop").unwrap();
    for number in from + 1..=from + OF_EACH_KEY {
        for key in 0..KEYS {
            let wave = Wave::builder("jobs.run").key(&key.to_string()).text(number.to_string());
            shop.emit(wave.build().unwrap()).await.unwrap();
        }
    }
}

async fn kill_in_a_loop(server: &str) {
    let kills = std::env::var("AETHER_JOB_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    for round in 0..kills {
        let (log, aether) = open(folder.path(), server).await;
        emit(&aether, round * OF_EACH_KEY).await;
        aether.close().await.unwrap();
        drop((log, aether));
        run_and_kill(folder.path(), server, fastrand::u64(1..KEYS * OF_EACH_KEY));
    }
    let all = kills * OF_EACH_KEY * KEYS;
    let rest = all - effects(folder.path());
    println!("{kills} kills: {rest} of {all} jobs are left");
    if rest > 0 {
        run_and_kill(folder.path(), server, rest);
    }
    check(folder.path(), all, kills * OF_EACH_KEY);
}

/// Whether all jobs were done once, and each key in order to its last number.
fn check(folder: &Path, all: u64, last_number: u64) {
    assert_eq!(effects(folder), all, "each once");
    let store = store(folder);
    let change = store.begin().unwrap();
    let last = change.table::<u64>("last").from("", 100).unwrap();
    let expected = (0..KEYS).map(|key| (key.to_string(), last_number));
    assert_eq!(last, expected.collect::<Vec<_>>());
    assert_eq!(change.table::<u64>("wrong").from("", 100).unwrap(), [], "each key in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_of_a_folder_is_done_once_and_in_order_of_its_key() {
    kill_in_a_loop("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_of_jetstream_is_done_once_and_in_order_of_its_key() {
    let streams = tempfile::tempdir().unwrap();
    let server = ServerOptions::default().jetstream(streams.path());
    let server = NatsServer::start_with(server).await.unwrap();
    kill_in_a_loop(&server.url()).await;
}
