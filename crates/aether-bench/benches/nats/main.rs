//! Compares Aether with raw async-nats in one run, over a real NATS server on this machine.
//!
//! `cargo xtask bench nats` prints the tables of docs/internals/benchmarks.md. Sender and receiver have one connection
//! each. Client, server and receiver share the machine. Each figure is the median of several rounds in which the
//! contestants take turns. A rate is the number of messages received divided by the time until the last one arrived.
//! The first table is about processor time instead, with sender and receiver in processes of their own: see [`sides`].

mod sides;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aether_bench::{median, payload};
use aether_conformance::NatsServer;
use aether_core::{InboxOptions, Vibrator, Wave};
use clap::{Parser, ValueEnum};
use futures::StreamExt;
use hdrhistogram::Histogram;
use tokio::task::JoinHandle;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BYTES: usize = aether_bench::DEFAULT_BYTES;
const MESSAGES: u64 = 1_000_000;
const ROUNDS: usize = 9;
const SIDES_ROUNDS: usize = 5;
const QUESTIONS: usize = 10_000;
/// After this long without a message, missing messages count as lost.
const SILENCE: Duration = Duration::from_secs(2);

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Compares Aether with raw async-nats over a real NATS server on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// The number of worker threads of the runtime shared by sender and receiver.
    #[arg(long, default_value = "2")]
    workers: NonZeroUsize,
    /// One table only.
    #[arg(long)]
    only: Option<Part>,
    #[command(flatten)]
    job: sides::Job,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The processor time of sender, server and receiver.
    Sides,
    /// One sender and one receiver.
    Throughput,
    /// Request-reply.
    Questions,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    let workers = args.workers.get();
    let wanted = |part: Part| args.only.is_none_or(|only| only == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(async {
        if args.job.side.is_some() {
            return sides::work(&args.job).await;
        }
        if wanted(Part::Sides) {
            sides::compare(SIDES_ROUNDS).await?;
            println!();
        }
        if wanted(Part::Throughput) {
            compare_throughput(workers).await?;
        }
        if wanted(Part::Questions) {
            compare_questions().await?;
        }
        Ok(())
    })
}

async fn compare_throughput(workers: usize) -> Outcome<()> {
    let server = NatsServer::start().await?;
    let url = server.url();
    println!(
        "{MESSAGES} messages of {BYTES} bytes, median of {ROUNDS} rounds, workers of the runtime: {workers}, allocator: {}\n",
        aether_bench::ALLOCATOR
    );
    let (mut raw, mut packed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw.push(raw_throughput(&url).await?);
        packed.push(aether_throughput(&url).await?);
    }
    println!("| one sender, one receiver | M/s | lost | against raw |\n|---|---|---|---|");
    let rate = |rounds: &[(f64, u64)]| median(rounds.iter().map(|round| round.0));
    let lost = |rounds: &[(f64, u64)]| rounds.iter().map(|round| round.1).max().unwrap_or(0);
    println!("| async-nats, default subscription | {:.2} | up to {} | 1.00 |", rate(&raw) / 1e6, lost(&raw));
    let mut ratios: Vec<f64> = raw.iter().zip(&packed).map(|(raw, packed)| packed.0 / raw.0).collect();
    let ratio = median(ratios.iter().copied());
    println!("| Aether over NATS | {:.2} | {} | {ratio:.2} |", rate(&packed) / 1e6, lost(&packed));
    ratios.sort_by(f64::total_cmp);
    println!("\nThe ratios of all rounds: {ratios:.2?}");
    Ok(())
}

async fn compare_questions() -> Outcome<()> {
    let server = NatsServer::start().await?;
    let url = server.url();
    let (mut raw, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw.push(raw_requests(&url).await?);
        asked.push(aether_questions(&url).await?);
    }
    println!(
        "\n| request-reply, one after the other | p50 us | p99 us | p50 against raw |\n|---|---|---|---|"
    );
    let us = |rounds: &[Histogram<u64>], q| {
        median(rounds.iter().map(|latency| latency.value_at_quantile(q) as f64 / 1000.0))
    };
    let ratio = median(
        raw.iter()
            .zip(&asked)
            .map(|(raw, asked)| asked.value_at_quantile(0.5) as f64 / raw.value_at_quantile(0.5) as f64),
    );
    println!("| async-nats request | {:.1} | {:.1} | 1.00 |", us(&raw, 0.5), us(&raw, 0.99));
    println!("| Aether ask | {:.1} | {:.1} | {ratio:.2} |", us(&asked, 0.5), us(&asked, 0.99));
    Ok(())
}

/// The messages counted by one receiver. Each receiver has its own counter, so counting needs no timer per message.
#[derive(Default)]
struct Arrivals {
    count: AtomicU64,
}

impl Arrivals {
    /// Must be called only by the one receiver.
    fn count(&self) {
        self.count.store(self.so_far() + 1, Ordering::Relaxed);
    }

    fn so_far(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn all(&self) -> bool {
        self.so_far() >= MESSAGES
    }

    /// Waits until the receiver has everything, or nothing has arrived for a while. Returns the count and the time
    /// taken.
    async fn until_silence(&self, start: Instant, receiving: &JoinHandle<()>) -> (u64, Duration) {
        let (mut before, mut at) = (0, start.elapsed());
        loop {
            for _ in 0..SILENCE.as_millis() {
                tokio::time::sleep(Duration::from_millis(1)).await;
                if self.so_far() > before {
                    (before, at) = (self.so_far(), start.elapsed());
                    break;
                }
            }
            if receiving.is_finished() || self.all() || start.elapsed() - at >= SILENCE {
                return (self.so_far(), at);
            }
        }
    }
}

async fn raw_throughput(url: &str) -> Outcome<(f64, u64)> {
    let (sender, receiver) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
    let mut messages = receiver.subscribe("bench.wave").await?;
    receiver.flush().await?;
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            sender.publish("bench.wave", payload(BYTES)).await?;
        }
        sender.flush().await?;
        Outcome::Ok(())
    });
    let arrivals = Arc::new(Arrivals::default());
    let receiving = tokio::spawn({
        let arrivals = Arc::clone(&arrivals);
        async move {
            while !arrivals.all() {
                let Some(message) = messages.next().await else { break };
                assert_eq!(message.payload.len(), BYTES);
                arrivals.count();
            }
        }
    });
    let (arrived, elapsed) = arrivals.until_silence(start, &receiving).await;
    receiving.abort();
    sending.await??;
    Ok((arrived as f64 / elapsed.as_secs_f64(), MESSAGES - arrived))
}

async fn aether_throughput(url: &str) -> Outcome<(f64, u64)> {
    let (sending_side, receiving_side) = (aether::connect(url).await?, aether::connect(url).await?);
    // Large enough for all messages, because messages from a network never wait.
    let mut receiver = Vibrator::builder("receiver")
        .inbox(InboxOptions::interactive().max_waves(MESSAGES as usize).max_bytes(2 << 30))
        .create(&receiving_side)
        .await?;
    receiver.resonate_on("bench.wave").await?;
    let sender = Vibrator::create("sender", &sending_side).await?;
    let channel = aether_core::Channel::new("bench.wave")?;
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            sender.emit(Wave::from_bytes(&channel, payload(BYTES))?).await?;
        }
        Outcome::Ok(())
    });
    let arrivals = Arc::new(Arrivals::default());
    let receiving = tokio::spawn({
        let arrivals = Arc::clone(&arrivals);
        async move {
            while !arrivals.all() {
                let Some(wave) = receiver.receive().await else { break };
                assert_eq!(wave.payload().len(), BYTES);
                arrivals.count();
            }
            let ledger = receiver.ledger();
            assert!(ledger.adds_up());
            if !arrivals.all() {
                eprintln!("waves are missing at the receiver, which counts: {ledger:?}");
            }
        }
    });
    let (arrived, elapsed) = arrivals.until_silence(start, &receiving).await;
    sending.await??;
    sending_side.close().await?;
    let status = receiving_side.status();
    receiving_side.close().await?;
    receiving.await?;
    if arrived < MESSAGES {
        eprintln!("its connection counts: {status:?}");
    }
    Ok((arrived as f64 / elapsed.as_secs_f64(), MESSAGES - arrived))
}

async fn raw_requests(url: &str) -> Outcome<Histogram<u64>> {
    let (asker, answerer) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
    let mut questions = answerer.subscribe("bench.question").await?;
    answerer.flush().await?;
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            if let Some(reply) = question.reply {
                answerer.publish(reply, question.payload).await?;
            }
        }
        Outcome::Ok(())
    });
    // flush() only writes to the socket. Until the server has handled the subscription, nobody can answer.
    while asker.request("bench.question", payload(BYTES)).await.is_err() {}
    let mut latency = Histogram::new(3)?;
    for _ in 0..QUESTIONS {
        let start = Instant::now();
        asker.request("bench.question", payload(BYTES)).await?;
        latency.record(start.elapsed().as_nanos() as u64)?;
    }
    answering.abort();
    Ok(latency)
}

async fn aether_questions(url: &str) -> Outcome<Histogram<u64>> {
    let (asking_side, answering_side) = (aether::connect(url).await?, aether::connect(url).await?);
    let asker = Vibrator::create("asker", &asking_side).await?;
    let mut answerer = Vibrator::create("answerer", &answering_side).await?;
    answerer.resonate_on("bench.question").await?;
    let answering = tokio::spawn(async move {
        while let Some(question) = answerer.receive().await {
            question.reply_bytes(question.payload().clone()).await?;
        }
        Outcome::Ok(())
    });
    let channel = aether_core::Channel::new("bench.question")?;
    let mut latency = Histogram::new(3)?;
    for _ in 0..QUESTIONS {
        let start = Instant::now();
        let question = Wave::from_bytes(&channel, payload(BYTES))?;
        asker.ask_within(question, Duration::from_secs(2)).await?;
        latency.record(start.elapsed().as_nanos() as u64)?;
    }
    asking_side.close().await?;
    answering_side.close().await?;
    answering.await??;
    Ok(latency)
}
