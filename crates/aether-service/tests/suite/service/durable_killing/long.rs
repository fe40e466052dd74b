//! The same worker with a cluster of three servers, where workers and servers are killed (SIGKILL) and stopped (SIGSTOP).
//!
//! A part of the jobs is large, so that JetStream has them in parts, and a part is for later.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use aether_conformance::NatsCluster;
use aether_core::{Emitter, Wave};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{KEYS, check, open, start, was_killed};

const SERVERS: usize = 3;
/// In each round.
const OF_EACH_KEY: u64 = 4;
const LATER: u64 = 8;
/// More than a message of the server can have.
const LARGE: usize = 1 << 20;
/// A cluster takes up to ten seconds to find another leader.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Debug, Clone, Copy)]
enum Fault {
    WorkerKilled,
    WorkerStopped,
    ServerKilled,
    ServerStopped,
}

/// A worker, and how many effects it and the ones before it had.
struct Worker {
    process: Child,
    effects: watch::Sender<u64>,
}

impl Worker {
    fn start(folder: &Path, server: &str, effects: watch::Sender<u64>) -> Self {
        let mut process = start(folder, server);
        let (lines, counted) = (BufReader::new(process.stdout.take().unwrap()).lines(), effects.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let all = line.strip_prefix("effect ").or_else(|| line.strip_prefix("again "));
                if let Some(all) = all.and_then(|all| all.parse::<u64>().ok()) {
                    counted.send_modify(|effects| *effects = all.max(*effects));
                }
            }
        });
        Self { process, effects }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    async fn has_done(&self, number: u64) {
        let mut effects = self.effects.subscribe();
        let done = timeout(PATIENCE, effects.wait_for(|effects| *effects >= number)).await;
        assert!(done.is_ok(), "{} of {number} jobs were done", *self.effects.borrow());
    }
}

/// Emits the jobs of a round: by key, every tenth of them large, and some without a key for later.
async fn emit(shop: Emitter, round: u64) {
    for number in round * OF_EACH_KEY + 1..=(round + 1) * OF_EACH_KEY {
        for key in 0..KEYS {
            let size = if fastrand::u8(..10) == 0 { LARGE } else { 100 };
            let text = format!("{number} {}", "x".repeat(size));
            let wave = Wave::builder("jobs.run").key(&key.to_string()).text(text).build().unwrap();
            shop.emit(wave).await.unwrap();
        }
    }
    for _ in 0..LATER {
        let after = Duration::from_millis(fastrand::u64(1..3000));
        shop.emit(Wave::builder("jobs.run").after(after).text("1").build().unwrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_is_done_once_and_in_order_of_its_key_while_workers_and_servers_fail() {
    let rounds = std::env::var("AETHER_JOB_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let (folder, streams) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut cluster = NatsCluster::start(SERVERS, streams.path()).await.unwrap();
    let (_log, aether) = open(folder.path(), &cluster.url()).await;
    let shop = aether.emitter("shop").unwrap();
    let mut worker = Worker::start(folder.path(), &cluster.url(), watch::Sender::new(0));
    let of_a_round = KEYS * OF_EACH_KEY + LATER;
    for round in 0..rounds {
        let emitted = tokio::spawn(emit(shop.clone(), round));
        worker.has_done(round * of_a_round + fastrand::u64(..of_a_round)).await;
        let fault = fastrand::choice([
            Fault::WorkerKilled,
            Fault::WorkerStopped,
            Fault::ServerKilled,
            Fault::ServerStopped,
        ]);
        let (fault, began) = (fault.unwrap(), Instant::now());
        let server = cluster.server(&format!("s{}", fastrand::usize(..SERVERS))).unwrap();
        match fault {
            Fault::WorkerKilled => {
                worker.process.kill().unwrap();
                was_killed(worker.process);
                worker = Worker::start(folder.path(), &cluster.url(), worker.effects);
            }
            Fault::WorkerStopped => {
                worker.signal(Signal::SIGSTOP);
                // Longer than a worker has for a job.
                tokio::time::sleep(Duration::from_millis(1500)).await;
                worker.signal(Signal::SIGCONT);
            }
            Fault::ServerKilled => {
                server.kill().await.unwrap();
                server.restart().await.unwrap();
            }
            Fault::ServerStopped => {
                server.stop().await.unwrap();
                // The other two go on without it.
                worker.has_done((round + 1) * of_a_round).await;
                server.resume().unwrap();
            }
        }
        emitted.await.unwrap();
        worker.has_done((round + 1) * of_a_round).await;
        println!("round {round}: {fault:?}, all was done after {:.1?}", began.elapsed());
    }
    worker.process.kill().unwrap();
    was_killed(worker.process);
    check(folder.path(), rounds * of_a_round, rounds * OF_EACH_KEY);
}
