//! Order by key with real processes: killed, stopped and woken, and ended.
//!
//! All append to one file what begins and what ends, so the file has the order of all of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, Wave};
use aether_log::ConsumerOptions;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::sync::{Barrier, watch};

use crate::durable::keyed::{member, server};
use crate::durable::stage::{connect, text};

const KEYS: u64 = 5;
const ACK_WAIT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that other tests start"]
async fn handles_by_key_until_it_is_ended() {
    let log = member(&std::env::var("AETHER_LOG_SERVER").unwrap(), ACK_WAIT).await;
    let file = OpenOptions::new().append(true).open(std::env::var("AETHER_KEYED_FILE").unwrap()).unwrap();
    let pauses = ConsumerOptions::default().pauses(Duration::from_millis(5), Duration::from_millis(20));
    let consumer = log.consumer("billing", "orders.>", pauses.by_key()).unwrap();
    consumer.ready().await.unwrap();
    let file = Arc::new(file);
    note(&file, "ready");
    let (end, ended) = watch::channel(false);
    // Before it is stopped, no handler is between taking a wave and noting it.
    let (stop, stopped) = watch::channel(());
    let barrier = Arc::new(Barrier::new(KEYS as usize + 1));
    let handlers: Vec<_> = (0..KEYS)
        .map(|_| {
            let (consumer, mut ended, file) = (consumer.clone(), ended.clone(), Arc::clone(&file));
            let (mut stopped, barrier) = (stopped.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                loop {
                    let delivery = tokio::select! {
                        biased;
                        _ = stopped.changed() => {
                            barrier.wait().await;
                            barrier.wait().await;
                            continue;
                        }
                        _ = ended.changed() => return,
                        delivery = consumer.receive() => delivery.unwrap(),
                    };
                    let name = text(&delivery);
                    note(&file, &format!("begin {name}"));
                    tokio::task::yield_now().await;
                    // Each fifth fails at first.
                    let number: u64 = name.split_once(' ').unwrap().1.parse().unwrap();
                    if number % 5 == 3 && delivery.attempt() == 1 {
                        note(&file, &format!("fail {name}"));
                        delivery.nack("once more");
                        continue;
                    }
                    note(&file, &format!("end {name}"));
                    // Without an answer of the server it comes again.
                    drop(delivery.ack().await);
                }
            })
        })
        .collect();
    // For each byte it stops itself, until the other end is closed.
    while tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]).unwrap()).await.unwrap() > 0 {
        stop.send_replace(());
        barrier.wait().await;
        raise(Signal::SIGSTOP).unwrap();
        barrier.wait().await;
    }
    end.send_replace(true);
    for handler in handlers {
        handler.await.unwrap();
    }
    consumer.close().await;
    note(&file, "left");
}

fn note(mut file: &File, line: &str) {
    file.write_all(format!("{} {line}\n", std::process::id()).as_bytes()).unwrap();
}

/// A server, a file, and the waves.
struct Shop {
    server: NatsServer,
    _streams: TempDir,
    file: PathBuf,
    aether: Aether,
    emitted: u64,
    /// How many had ended before the last ones were emitted.
    ended_before: usize,
}

impl Shop {
    async fn open() -> Self {
        let streams = tempfile::tempdir().unwrap();
        let server = server(&streams).await;
        let file = streams.path().join("keyed");
        File::create(&file).unwrap();
        let aether = connect(&member(&server.url(), ACK_WAIT).await).await;
        Self { server, _streams: streams, file, aether, emitted: 0, ended_before: 0 }
    }

    fn start(&self) -> Child {
        let before = self.count(|line| line.ends_with(" ready"));
        let worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durable::keyed_processes::handles_by_key_until_it_is_ended", "--ignored"])
            .env("AETHER_LOG_SERVER", self.server.url())
            .env("AETHER_KEYED_FILE", &self.file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.until(|_| self.count(|line| line.ends_with(" ready")) > before);
        worker
    }

    /// Emits waves, as many of each key.
    async fn emit(&mut self, of_each_key: u64) {
        self.ended_before = self.count(is_end);
        let shop = self.aether.emitter("shop").unwrap();
        for number in self.emitted..self.emitted + of_each_key {
            for key in 0..KEYS {
                let wave = Wave::builder("orders.created").key(&key.to_string());
                shop.emit(wave.text(format!("{key} {number}")).build().unwrap()).await.unwrap();
            }
        }
        self.emitted += of_each_key;
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = String::new();
        File::open(&self.file).unwrap().read_to_string(&mut lines).unwrap();
        lines.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    fn count(&self, is_it: impl Fn(&str) -> bool) -> usize {
        self.lines().iter().filter(|line| is_it(line)).count()
    }

    /// Waits for lines.
    fn until(&self, are_there: impl Fn(&[String]) -> bool) {
        for _ in 0..18_000 {
            if are_there(&self.lines()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{:#?}", self.lines());
    }

    /// Waits until a number of waves has ended since the last ones were emitted.
    fn handled(&self, more: usize) {
        let all = self.ended_before + more;
        self.until(|lines| lines.iter().filter(|line| is_end(line)).count() >= all);
    }

    /// Waits until the last wave of each key has ended.
    fn handled_all(&self) {
        let last = self.emitted - 1;
        let is_all = |lines: &[String]| {
            (0..KEYS).all(|key| lines.iter().any(|line| line.ends_with(&format!(" end {key} {last}"))))
        };
        self.until(is_all);
    }

    /// Waits until all waves have ended, and checks the order of each key.
    fn check(&self) {
        self.handled_all();
        let lines = self.lines();
        let (mut done, mut running) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, (&str, u64)>::new());
        for (at, line) in lines.iter().enumerate() {
            let around = || format!("line {at}: {:#?}", &lines[at.saturating_sub(40)..=at]);
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                [process, "dead"] => running.retain(|_, (its, _)| *its != process),
                [process, "begin", key, number] => {
                    let number = number.parse().unwrap();
                    let next = done.get(key).map_or(0, |done| done + 1);
                    // The last one may come again, if its acknowledgement was cut off.
                    assert!(number == next || number + 1 == next, "{}", around());
                    let before = running.insert(key, (process, number));
                    assert!(before.is_none(), "two at once, {}", around());
                }
                [process, "end" | "fail", key, number] => {
                    let number = number.parse().unwrap();
                    assert_eq!(running.remove(key), Some((process, number)), "{}", around());
                    if words[1] == "end" {
                        done.insert(key, number);
                    }
                }
                _ => {}
            }
        }
    }

    fn note_dead(&self, worker: &Child) {
        let mut file = OpenOptions::new().append(true).open(Path::new(&self.file)).unwrap();
        writeln!(file, "{} dead", worker.id()).unwrap();
    }

    /// The process that handles now.
    fn handles<'a>(&self, workers: &'a mut [Child]) -> &'a mut Child {
        let lines = self.lines();
        let last = lines.iter().rfind(|line| is_end(line)).unwrap();
        let id: u32 = last.split(' ').next().unwrap().parse().unwrap();
        workers.iter_mut().find(|worker| worker.id() == id).unwrap()
    }
}

fn is_end(line: &str) -> bool {
    line.contains(" end ")
}

fn end(mut worker: Child) {
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_in_order_when_processes_are_killed() {
    let mut shop = Shop::open().await;
    let mut workers = [shop.start(), shop.start()];
    for _ in 0..4 {
        shop.emit(60).await;
        shop.handled(fastrand::usize(20..120));
        let worker = shop.handles(&mut workers);
        worker.kill().unwrap();
        worker.wait().unwrap();
        shop.note_dead(worker);
        *worker = shop.start();
    }
    shop.check();
    workers.into_iter().for_each(end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_in_order_when_a_process_is_stopped_for_longer_than_the_server_waits() {
    let mut shop = Shop::open().await;
    let mut workers = [shop.start(), shop.start()];
    for _ in 0..3 {
        shop.emit(100).await;
        shop.handled(fastrand::usize(20..120));
        let worker = shop.handles(&mut workers);
        let id = Pid::from_raw(worker.id().cast_signed());
        worker.stdin.as_mut().unwrap().write_all(b"s").unwrap();
        waitpid(id, Some(WaitPidFlag::WUNTRACED)).unwrap();
        // The other one goes on.
        shop.emit(10).await;
        shop.handled_all();
        kill(id, Signal::SIGCONT).unwrap();
    }
    shop.check();
    workers.into_iter().for_each(end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_in_order_and_nothing_is_done_twice_when_processes_end_and_begin() {
    let mut shop = Shop::open().await;
    let mut worker = shop.start();
    for _ in 0..3 {
        shop.emit(60).await;
        shop.handled(fastrand::usize(20..120));
        let next = shop.start();
        end(std::mem::replace(&mut worker, next));
    }
    shop.check();
    assert_eq!(shop.count(is_end) as u64, shop.emitted * KEYS);
    end(worker);
}
