//! Compares Aether with tokio's bounded mpsc and broadcast channels in one run, in process.
//!
//! `cargo bench -p aether-bench --bench inprocess` prints the tables of BENCHMARKS.md. Each figure is the median of
//! several runs, the contestants take turns, and every message carries a freshly allocated payload of 128 bytes unless the
//! table says that one is shared. Rates count received messages. The feature `system-allocator` takes the allocator of the
//! system instead of mimalloc.

mod latency;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aether_bench::{median, payload};
use aether_core::{Aether, InboxOptions, Vibrator, Wave, WhenFull};
use bytes::Bytes;
use clap::Parser;
use tokio::runtime::Runtime;
use tokio::sync::{Barrier, broadcast, mpsc};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), Error>;

/// glibc's allocator takes a lock when one thread frees what another allocated, which every contestant pays for its
/// payloads. With the feature it is measured.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares Aether with tokio's channels in process.
#[derive(Debug, Parser)]
struct Args {
    /// One table only: `one`, `many`, `fanin`, `fanout` or `latency`.
    only: Option<String>,
    /// The number of worker threads of the runtime.
    #[arg(long, default_value = "2")]
    workers: NonZeroUsize,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

const BYTES: usize = aether_bench::DEFAULT_BYTES;
const MESSAGES: usize = 1_000_000;
const ROUNDS: usize = 7;
const RECEIVERS: usize = 8;
const SENDERS: usize = 8;
const BATCH: usize = 64;
/// Longer than a busy machine may delay a receiver, so that nothing is shed.
const PATIENCE: Duration = Duration::from_secs(60);
const CHANNEL: &str = "bench.wave";

fn main() -> Outcome {
    let args = Args::parse();
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let workers = args.workers.get();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let allocator = if cfg!(feature = "system-allocator") { "the system's allocator" } else { "mimalloc" };
    println!(
        "{allocator}, {MESSAGES} messages of {BYTES} bytes, median of {ROUNDS} rounds, workers of the runtime: {workers}"
    );
    if wanted("one") {
        one_to_one(&runtime)?;
    }
    if wanted("many") {
        many(&runtime)?;
    }
    if wanted("fanin") {
        eight_to_one(&runtime)?;
    }
    if wanted("fanout") {
        one_to_eight(&runtime)?;
    }
    if wanted("latency") {
        latency::latency(&runtime)?;
    }
    Ok(())
}

fn one_to_one(runtime: &Runtime) -> Outcome {
    let mut rounds: Vec<[f64; 4]> = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push([
            runtime.block_on(tokio_mpsc(|_| payload(BYTES))),
            runtime.block_on(tokio_mpsc(Message::numbered)),
            runtime.block_on(aether(1, 1024))?,
            runtime.block_on(aether(1, 65_536))?,
        ]);
    }
    println!("\n| one sender, one receiver | M/s | against mpsc |\n|---|---|---|");
    for (index, name) in [
        "tokio mpsc, bounded 1024",
        "the same, of boxes with payload, number and time",
        "Aether, inbox of 1024",
        "Aether, inbox of 65,536 (default)",
    ]
    .iter()
    .enumerate()
    {
        let rate = median(rounds.iter().map(|round| round[index]));
        let ratio = median(rounds.iter().map(|round| round[index] / round[0]));
        println!("| {name} | {:.2} | {ratio:.2} |", rate / 1e6);
    }
    Ok(())
}

/// Prints rows in pairs of a channel and the bus, which take turns.
fn print_pairs(title: &str, names: &[&str], rounds: &[Vec<f64>]) {
    println!("\n| {title} | M/s | against the row above |\n|---|---|---|");
    for (index, name) in names.iter().enumerate() {
        let rate = median(rounds.iter().map(|round| round[index])) / 1e6;
        match index % 2 {
            0 => println!("| {name} | {rate:.2} | |"),
            _ => {
                let ratio = median(rounds.iter().map(|round| round[index] / round[index - 1]));
                println!("| {name} | {rate:.2} | {ratio:.2} |");
            }
        }
    }
}

fn many(runtime: &Runtime) -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let shared = payload(BYTES);
        let other = shared.clone();
        rounds.push(vec![
            runtime.block_on(tokio_mpsc(move |_| shared.clone())),
            runtime.block_on(aether_from(1, move || other.clone(), 1))?,
            runtime.block_on(tokio_recv_many()),
            runtime.block_on(aether_from(1, || payload(BYTES), BATCH))?,
        ]);
    }
    let names = [
        "tokio mpsc, clones of one payload",
        "Aether, clones of one payload",
        "tokio mpsc, recv_many of 64",
        "Aether, emit_all and receive_many of 64",
    ];
    print_pairs("one sender, one receiver, 1024", &names, &rounds);
    Ok(())
}

fn eight_to_one(runtime: &Runtime) -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(vec![
            runtime.block_on(tokio_mpsc_from(SENDERS)),
            runtime.block_on(aether_from(SENDERS, || payload(BYTES), 1))?,
        ]);
    }
    print_pairs("8 senders, one receiver", &["tokio mpsc, 1024", "Aether, inbox of 1024"], &rounds);
    Ok(())
}

/// Several senders, each with its part of the messages.
async fn tokio_mpsc_from(senders: usize) -> f64 {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1024);
    let start = Instant::now();
    for _ in 0..senders {
        let sender = sender.clone();
        tokio::spawn(async move {
            for _ in 0..MESSAGES / senders {
                if sender.send(payload(BYTES)).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(sender);
    let received = tokio::spawn(async move {
        let mut received = 0;
        while let Some(message) = receiver.recv().await {
            assert_eq!(message.len(), BYTES);
            received += 1;
        }
        received
    });
    assert_eq!(received.await.expect("no panic"), MESSAGES);
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}

/// One by one into the channel, which has no way to send many, and many at once out of it.
async fn tokio_recv_many() -> f64 {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1024);
    let start = Instant::now();
    tokio::spawn(async move {
        for _ in 0..MESSAGES {
            if sender.send(payload(BYTES)).await.is_err() {
                break;
            }
        }
    });
    let received = tokio::spawn(async move {
        let (mut received, mut taken) = (0, Vec::with_capacity(BATCH));
        while receiver.recv_many(&mut taken, BATCH).await > 0 {
            received += taken.drain(..).filter(|message| message.len() == BYTES).count();
        }
        received
    });
    assert_eq!(received.await.expect("no panic"), MESSAGES);
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}

/// Several senders to one inbox of 1024, one wave or `batch` waves at a time. Fails unless every wave arrives.
async fn aether_from(
    senders: usize,
    make: impl Fn() -> Bytes + Clone + Send + 'static,
    batch: usize,
) -> Result<f64, Error> {
    let aether = Aether::local();
    let inbox = InboxOptions::interactive().max_waves(1024).when_full(WhenFull::Wait { patience: PATIENCE });
    let mut receiver = Vibrator::builder("receiver").inbox(inbox).create(&aether).await?;
    receiver.resonate_on(CHANNEL).await?;
    let channel = aether_core::Channel::new(CHANNEL)?;
    let start = Instant::now();
    for _ in 0..senders {
        let (sender, channel, make) = (aether.emitter("sender")?, channel.clone(), make.clone());
        tokio::spawn(async move {
            let wave = move || Wave::from_bytes(&channel, make()).expect("valid");
            if batch > 1 {
                let waves = std::iter::repeat_with(wave).take(MESSAGES / senders);
                sender.emit_all(waves).await.expect("the medium is open");
                return;
            }
            for _ in 0..MESSAGES / senders {
                sender.emit(wave()).await.expect("the medium is open");
            }
        });
    }
    let receiving = tokio::spawn(async move {
        let (mut received, mut taken) = (0, Vec::with_capacity(batch));
        while received < MESSAGES {
            if batch > 1 {
                receiver.receive_many(&mut taken, batch).await;
            } else {
                taken.extend(receiver.receive().await);
            }
            received += taken.drain(..).filter(|wave| wave.payload().len() == BYTES).count();
        }
        let ledger = receiver.ledger();
        assert!(ledger.adds_up() && ledger.lost() == 0 && ledger.delivered == MESSAGES as u64, "{ledger:?}");
    });
    receiving.await?;
    Ok(MESSAGES as f64 / start.elapsed().as_secs_f64())
}

fn one_to_eight(runtime: &Runtime) -> Outcome {
    let mut rounds: Vec<[f64; 5]> = Vec::new();
    for _ in 0..ROUNDS {
        let greedy = runtime.block_on(tokio_broadcast(false));
        let yielding = runtime.block_on(tokio_broadcast(true));
        let aether = runtime.block_on(aether(RECEIVERS, 1024))?;
        rounds.push([greedy.0, greedy.1, yielding.0, yielding.1, aether]);
    }
    println!(
        "\n| one sender, {RECEIVERS} receivers | deliveries M/s | lost | against broadcast | against the one that yields |\n|---|---|---|---|---|"
    );
    let column = |index: usize| median(rounds.iter().map(|round| round[index]));
    let against = |index: usize, other: usize| median(rounds.iter().map(|round| round[index] / round[other]));
    for (name, rate, lost) in [
        ("tokio broadcast, 1024", 0, column(1)),
        ("the same, yielding after every 64", 2, column(3)),
        ("Aether, inboxes of 1024", 4, 0.0),
    ] {
        println!(
            "| {name} | {:.2} | {:.0} % | {:.2} | {:.2} |",
            column(rate) / 1e6,
            lost * 100.0,
            against(rate, 0),
            against(rate, 2)
        );
    }
    Ok(())
}

/// The fields that every wave carries besides its payload, in the allocation that lets many receivers share it.
struct Message {
    payload: Bytes,
    number: u64,
    sent: Instant,
}

impl Message {
    fn numbered(number: u64) -> Box<Self> {
        Box::new(Self { payload: payload(BYTES), number, sent: Instant::now() })
    }
}

/// The parts of a received message that a benchmark checks.
trait Arrived {
    fn bytes(&self, expected: u64) -> usize;
}

impl Arrived for Bytes {
    fn bytes(&self, _: u64) -> usize {
        self.len()
    }
}

impl Arrived for Box<Message> {
    fn bytes(&self, expected: u64) -> usize {
        assert_eq!(self.number, expected);
        std::hint::black_box(self.sent);
        self.payload.len()
    }
}

async fn tokio_mpsc<M: Arrived + Send + 'static>(make: impl Fn(u64) -> M + Send + 'static) -> f64 {
    let (sender, mut receiver) = mpsc::channel::<M>(1024);
    let start = Instant::now();
    tokio::spawn(async move {
        for number in 0..MESSAGES as u64 {
            if sender.send(make(number)).await.is_err() {
                break;
            }
        }
    });
    let received = tokio::spawn(async move {
        let mut received = 0;
        while let Some(message) = receiver.recv().await {
            assert_eq!(message.bytes(received), BYTES);
            received += 1;
        }
        received
    });
    let received = received.await.expect("no panic");
    assert_eq!(received, MESSAGES as u64);
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}

async fn tokio_broadcast(yields: bool) -> (f64, f64) {
    let (sender, _) = broadcast::channel::<Bytes>(1024);
    let receivers: Vec<_> = (0..RECEIVERS)
        .map(|_| {
            let mut receiver = sender.subscribe();
            tokio::spawn(async move {
                let (mut received, mut lost) = (0_u64, 0_u64);
                loop {
                    match receiver.recv().await {
                        Ok(message) => {
                            assert_eq!(message.len(), BYTES);
                            received += 1;
                        }
                        Err(broadcast::error::RecvError::Lagged(missed)) => lost += missed,
                        Err(broadcast::error::RecvError::Closed) => return (received, lost),
                    }
                }
            })
        })
        .collect();
    let start = Instant::now();
    tokio::spawn(async move {
        for index in 0..MESSAGES {
            sender.send(payload(BYTES)).expect("receivers are there");
            // send() never waits. A considerate service yields now and then. Without yielding, most messages are lost
            // (the second row of the table).
            if yields && index % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let (mut received, mut lost) = (0, 0);
    for receiver in receivers {
        let counts = receiver.await.expect("no panic");
        received += counts.0;
        lost += counts.1;
    }
    assert_eq!(received + lost, (MESSAGES * RECEIVERS) as u64);
    (received as f64 / start.elapsed().as_secs_f64(), lost as f64 / (received + lost) as f64)
}

/// Returns deliveries per second. Fails unless every wave arrives at every receiver.
async fn aether(receivers: usize, inbox: usize) -> Result<f64, Error> {
    let aether = Aether::local();
    let barrier = Arc::new(Barrier::new(receivers + 1));
    let mut tasks = Vec::new();
    for index in 0..receivers {
        let mut vibrator = Vibrator::builder(&format!("receiver{index}"))
            .inbox(
                InboxOptions::interactive().max_waves(inbox).when_full(WhenFull::Wait { patience: PATIENCE }),
            )
            .create(&aether)
            .await?;
        vibrator.resonate_on(CHANNEL).await?;
        let barrier = Arc::clone(&barrier);
        tasks.push(tokio::spawn(async move {
            barrier.wait().await;
            for _ in 0..MESSAGES {
                let wave = vibrator.receive().await.expect("the medium is open");
                assert_eq!(wave.payload().len(), BYTES);
            }
            let ledger = vibrator.ledger();
            assert!(
                ledger.adds_up() && ledger.lost() == 0 && ledger.delivered == MESSAGES as u64,
                "{ledger:?}"
            );
        }));
    }
    let sender = Vibrator::create("sender", &aether).await?;
    let channel = aether_core::Channel::new(CHANNEL)?;
    barrier.wait().await;
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            let wave = Wave::from_bytes(&channel, payload(BYTES)).expect("valid");
            sender.emit(wave).await.expect("the medium is open");
        }
    });
    for task in tasks {
        task.await?;
    }
    sending.await?;
    Ok((MESSAGES * receivers) as f64 / start.elapsed().as_secs_f64())
}
