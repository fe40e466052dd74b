//! Compares Aether with tokio's bounded mpsc and broadcast channels in one run, in process.
//!
//! `cargo bench -p aether-bench --bench inprocess` prints the tables of BENCHMARKS.md. Each figure is the median of
//! several runs, the contestants take turns, and every message carries a freshly allocated payload of 128 bytes.
//! Rates count received messages.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aether_bench::{clock, median, payload};
use aether_core::{Aether, InboxOptions, Vibrator, Wave, WhenFull};
use bytes::Bytes;
use clap::Parser;
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;
use tokio::sync::{Barrier, broadcast, mpsc};
use tokio::task::JoinHandle;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), Error>;

/// glibc's allocator takes a lock when one thread frees what another allocated. The benchmark would measure this lock
/// for every contestant.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares Aether with tokio's channels in process.
#[derive(Debug, Parser)]
struct Args {
    /// One table only: `one`, `fanout` or `latency`.
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
/// Longer than a busy machine may delay a receiver, so that nothing is shed.
const PATIENCE: Duration = Duration::from_secs(60);
const CHANNEL: &str = "bench.wave";

fn main() -> Outcome {
    let args = Args::parse();
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let workers = args.workers.get();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    println!(
        "{MESSAGES} messages of {BYTES} bytes, median of {ROUNDS} rounds, workers of the runtime: {workers}"
    );
    if wanted("one") {
        one_to_one(&runtime)?;
    }
    if wanted("fanout") {
        one_to_eight(&runtime)?;
    }
    if wanted("latency") {
        latency(&runtime)?;
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

fn one_to_eight(runtime: &Runtime) -> Outcome {
    let mut rounds: Vec<[f64; 5]> = Vec::new();
    for _ in 0..ROUNDS {
        let greedy = runtime.block_on(tokio_broadcast(false));
        let yielding = runtime.block_on(tokio_broadcast(true));
        let aether = runtime.block_on(aether(RECEIVERS, 1024))?;
        rounds.push([greedy.0, greedy.1, yielding.0, yielding.1, aether]);
    }
    println!(
        "\n| one sender, {RECEIVERS} receivers | deliveries M/s | lost | against broadcast |\n|---|---|---|---|"
    );
    let column = |index: usize| median(rounds.iter().map(|round| round[index]));
    let against = |index: usize| median(rounds.iter().map(|round| round[index] / round[0]));
    for (name, rate, lost) in [
        ("tokio broadcast, 1024", 0, column(1)),
        ("the same, yielding after every 64", 2, column(3)),
        ("Aether, inboxes of 1024", 4, 0.0),
    ] {
        println!("| {name} | {:.2} | {:.0} % | {:.2} |", column(rate) / 1e6, lost * 100.0, against(rate));
    }
    Ok(())
}

fn latency(runtime: &Runtime) -> Outcome {
    for (pace, title) in [
        (Pace::Task, "from a task to a task, one message every ms"),
        (Pace::Thread, "from a thread that never sleeps to a task that does, every 50 us"),
    ] {
        println!("\n| {title} | p50 us | p99 us |\n|---|---|---|");
        let (mut mpsc, mut aether) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            mpsc.push(runtime.block_on(mpsc_latency(pace))?);
            aether.push(runtime.block_on(aether_latency(pace))?);
        }
        for (name, rounds) in [("tokio mpsc", mpsc), ("Aether", aether)] {
            let us = |q| median(rounds.iter().map(|latency| latency.value_at_quantile(q) as f64)) / 1000.0;
            println!("| {name} | {:.1} | {:.1} |", us(0.5), us(0.99));
        }
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

/// Where the sender runs, and how often it sends.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// A task of the same runtime that waits for a timer, as most services wait for some event.
    Task,
    /// A separate spinning thread, so that the receiver's worker has gone to sleep before each message.
    Thread,
}

impl Pace {
    const fn messages(self) -> usize {
        match self {
            Self::Task => 1000,
            Self::Thread => 20_000,
        }
    }

    const fn period(self) -> Duration {
        match self {
            Self::Task => Duration::from_millis(1),
            Self::Thread => Duration::from_micros(50),
        }
    }

    /// Calls `send` once for each message.
    fn drive(self, mut send: impl FnMut() + Send + 'static) -> JoinHandle<()> {
        match self {
            Self::Task => tokio::spawn(async move {
                let mut ticks = tokio::time::interval(self.period());
                for _ in 0..self.messages() {
                    ticks.tick().await;
                    send();
                }
            }),
            Self::Thread => tokio::task::spawn_blocking(move || {
                let start = Instant::now();
                for index in 0..self.messages() {
                    spin_until(start + self.period() * index as u32);
                    send();
                }
            }),
        }
    }
}

/// Waits without yielding the processor, because a timer would be coarser than the measured times.
fn spin_until(deadline: Instant) {
    while Instant::now() < deadline {
        std::hint::spin_loop();
    }
}

/// A message with its send time, padded to the same size as the others. For both contestants, the measurement starts
/// just before the sending call and ends just after the receiving call.
fn stamped() -> Bytes {
    let mut stamped = vec![7; BYTES];
    stamped[..8].copy_from_slice(&clock::now().to_le_bytes());
    Bytes::from(stamped)
}

/// The time since a message was sent, in nanoseconds.
fn since(message: &[u8]) -> u64 {
    let sent = message.first_chunk().map_or(0, |stamp| u64::from_le_bytes(*stamp));
    clock::now().saturating_sub(sent)
}

/// The receiver is a task of the runtime. Both contestants have room for all messages, because the machine may delay
/// the receiver.
async fn mpsc_latency(pace: Pace) -> Result<Histogram<u64>, Error> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(pace.messages());
    let receiving = tokio::spawn(async move {
        let mut latency = Histogram::new(3)?;
        while let Some(message) = receiver.recv().await {
            latency.record(since(&message))?;
        }
        Ok::<_, Error>(latency)
    });
    pace.drive(move || sender.try_send(stamped()).expect("room for all")).await?;
    receiving.await?
}

async fn aether_latency(pace: Pace) -> Result<Histogram<u64>, Error> {
    let aether = Aether::local();
    let mut receiver = Vibrator::create("receiver", &aether).await?;
    receiver.resonate_on(CHANNEL).await?;
    let sender = Vibrator::create("sender", &aether).await?;
    let channel = aether_core::Channel::new(CHANNEL)?;
    let receiving = tokio::spawn(async move {
        let mut latency = Histogram::new(3)?;
        for _ in 0..pace.messages() {
            let wave = receiver.receive().await.expect("the medium is open");
            latency.record(since(wave.payload()))?;
        }
        Ok::<_, Error>(latency)
    });
    pace.drive(move || {
        let wave = Wave::from_bytes(&channel, stamped()).expect("a valid wave");
        sender.try_emit(wave).expect("room for all");
    })
    .await?;
    receiving.await?
}
