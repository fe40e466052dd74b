//! One source at 100 times its share, and its effect on the others.
//!
//! `cargo xtask bench shares` prints the table of docs/internals/benchmarks.md. Ten sources ask one vibrator, which
//! answers one question at a time and takes a few milliseconds for each, as one that asks a database does. Each source
//! asks a tenth of what the vibrator answers in nine tenths of its time, at random times (Poisson) and without waiting
//! for answers. Then one of the ten asks a hundred times as often. All questions have the amplitude 1.0, so no strength
//! helps. Both cases alternate, and the others ask at the same times in both: at nine tenths of the capacity these
//! times decide how long the tail is.
//!
//! Sources, server and vibrator share the machine; each source has a connection of its own over NATS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aether_bench::{Table, latency, median, percent};
use aether_conformance::NatsServer;
use aether_core::{Aether, AskError, InboxOptions, Vibrator, Wave};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SOURCES: usize = 10;
const ROUNDS: usize = 5;
const SECONDS: u64 = 15;
const WORK: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(5);
const CHANNEL: &str = "stock.count";
/// Ten seconds of work: the flood fills it.
const MAX_WAVES: usize = 2048;

/// The effect on the sources other than the first.
struct Noticed {
    p50: f64,
    p99: f64,
    asked: usize,
    unanswered: usize,
    /// Questions of the first source, and how many of them were answered.
    first: (usize, usize),
    /// The vibrator's answers as a share of its answers in a calm time, in percent: at less, others may have waited
    /// because the machine was slow.
    served: f64,
}

fn main() -> Result<(), Failure> {
    println!("median of {ROUNDS} rounds of {SECONDS} s, allocator: {}\n", aether_bench::ALLOCATOR);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        compare("in one process", "local:").await?;
        let server = NatsServer::start().await?;
        compare("over NATS", &server.url()).await
    })
}

async fn compare(medium: &str, url: &str) -> Result<(), Failure> {
    let capacity = capacity(url).await?;
    println!("{medium}: {capacity:.0} questions a second are answered, a share is {:.1}\n", share(capacity));
    let mut runs = [Vec::new(), Vec::new()];
    for seed in 0..ROUNDS as u64 {
        for (run, times) in runs.iter_mut().zip([1.0, 100.0]) {
            run.push(round(url, capacity, times, seed).await?);
        }
    }
    let mut table = Table::new(&[
        "the first source asks",
        "p50 of the others",
        "p99",
        "unanswered",
        "of the first answered",
    ]);
    for (run, name) in runs.iter().zip(["its share", "100 times its share"]) {
        let asked: usize = run.iter().map(|noticed| noticed.asked).sum();
        let unanswered: usize = run.iter().map(|noticed| noticed.unanswered).sum();
        let (first, answered) = run.iter().fold((0, 0), |sum, n| (sum.0 + n.first.0, sum.1 + n.first.1));
        table.row([
            name.to_owned(),
            latency(Some(median(run.iter().map(|noticed| noticed.p50)) / 1e3)),
            latency(Some(median(run.iter().map(|noticed| noticed.p99)) / 1e3)),
            format!("{unanswered} of {asked}"),
            percent(100.0 * answered as f64 / first as f64),
        ]);
    }
    println!("{}", table.markdown());
    let ratios: Vec<f64> = runs[0].iter().zip(&runs[1]).map(|(calm, flood)| flood.p99 / calm.p99).collect();
    println!("p99 with the flood against without, all rounds: {ratios:.2?}");
    let served = runs[1].iter().map(|flood| percent(flood.served)).collect::<Vec<_>>().join(", ");
    println!("answered with the flood, of the capacity: {served}\n");
    Ok(())
}

/// The vibrator that answers, until its task is aborted.
async fn answering(aether: &Aether) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let inbox = InboxOptions::interactive().max_waves(MAX_WAVES);
    let mut stock = Vibrator::builder("stock").inbox(inbox).create(aether).await?;
    stock.resonate_on(CHANNEL).await?;
    Ok(tokio::spawn(async move {
        while let Some(question) = stock.receive().await {
            tokio::time::sleep(WORK).await;
            // An asker that gave up is counted as unanswered by itself.
            let _ = question.reply_bytes("17").await;
        }
    }))
}

/// Questions that are answered in a second.
async fn capacity(url: &str) -> Result<f64, Failure> {
    const QUESTIONS: usize = 400;
    let aether = aether::connect(url).await?;
    let task = answering(&aether).await?;
    let shop = Vibrator::create("shop", &aether).await?;
    let begun = Instant::now();
    let ask = |_| async {
        shop.ask_within(question()?, Duration::from_secs(60)).await?;
        Ok::<_, Failure>(())
    };
    futures::future::try_join_all((0..QUESTIONS).map(ask)).await?;
    task.abort();
    aether.close().await?;
    Ok(QUESTIONS as f64 / begun.elapsed().as_secs_f64())
}

fn question() -> Result<Wave, Failure> {
    Ok(Wave::builder(CHANNEL).amplitude(1.0).text("how many?").build()?)
}

/// The questions that each source asks in a second, of those that are answered.
fn share(capacity: f64) -> f64 {
    0.9 * capacity / SOURCES as f64
}

async fn round(url: &str, capacity: f64, times: f64, seed: u64) -> Result<Noticed, Failure> {
    let aether = aether::connect(url).await?;
    let task = answering(&aether).await?;
    let mut sources = JoinSet::new();
    let begun = Instant::now();
    for number in 0..SOURCES {
        let own = if url == "local:" { aether.clone() } else { aether::connect(url).await? };
        let rate = if number == 0 { times * share(capacity) } else { share(capacity) };
        let random = fastrand::Rng::with_seed(seed * SOURCES as u64 + number as u64);
        sources.spawn(async move { (number, source(own, rate, random).await) });
    }
    let mut times = Histogram::<u64>::new(3)?;
    let (mut asked, mut unanswered, mut first) = (0, 0, (0, 0));
    while let Some(joined) = sources.join_next().await {
        let (number, answers) = joined?;
        let answers = answers?;
        let answered = answers.iter().flatten().count();
        match number {
            0 => first = (answers.len(), answered),
            _ => {
                (asked, unanswered) = (asked + answers.len(), unanswered + answers.len() - answered);
                // A question that is not answered took at least as long as its asker waited.
                for time in answers {
                    times.record(time.unwrap_or(PATIENCE).as_nanos() as u64)?;
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    task.abort();
    aether.close().await?;
    let served = 100.0 * (asked - unanswered + first.1) as f64 / seconds / capacity;
    let at = |quantile| times.value_at_quantile(quantile) as f64;
    Ok(Noticed { p50: at(0.5), p99: at(0.99), asked, unanswered, first, served })
}

/// The times after which the questions of a source were answered, from when they were due.
async fn source(
    aether: Aether,
    rate: f64,
    mut random: fastrand::Rng,
) -> Result<Vec<Option<Duration>>, Failure> {
    let shop = Arc::new(Vibrator::create("shop", &aether).await?);
    let mut asking = JoinSet::new();
    let (begun, mut due) = (tokio::time::Instant::now(), Duration::ZERO);
    loop {
        due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        if due >= Duration::from_secs(SECONDS) {
            break;
        }
        tokio::time::sleep_until(begun + due).await;
        let (shop, question, due) = (Arc::clone(&shop), question()?, begun + due);
        asking.spawn(async move {
            match shop.ask_within(question, PATIENCE).await {
                Ok(_) => Ok(Some(due.elapsed())),
                // The last two: the inbox has shed the question, and its asker has too many.
                Err(AskError::TimedOut { .. } | AskError::Unanswered { .. } | AskError::TooMany { .. }) => {
                    Ok(None)
                }
                Err(error) => Err(Failure::from(error)),
            }
        });
    }
    asking.join_all().await.into_iter().collect()
}
