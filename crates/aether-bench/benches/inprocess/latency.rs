//! The time from sending to receiving, with one sender and one receiver.
//!
//! Two tables. In one the receiver is always faster than the sender and often asleep. In the other the sender offers a
//! part of what the contestant can carry, on a schedule that does not wait: latency counts from the moment at which a
//! message was due, so a late sender hides nothing.

use std::time::{Duration, Instant};

use aether_bench::{clock, median};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::contestants::{
    AsyncChannel, Broadcast, Bus, Contestant, Crossfire, Flume, Kanal, Mpsc, Opened, Receiver as _, Sender,
};
use crate::{Error, Outcome};

const BYTES: usize = aether_bench::DEFAULT_BYTES;
/// The duration of each load.
const LOAD: Duration = Duration::from_millis(500);
/// The number of messages from which the capacity is measured.
const TO_CAPACITY: u64 = 300_000;
/// The loads, as shares of the capacity.
const LOADS: [f64; 3] = [0.1, 0.5, 0.9];

/// Longer latencies count as a minute.
const LONGEST_NS: u64 = 60_000_000_000;

type Latencies = Histogram<u64>;

/// When messages are sent.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// By a task of the same runtime that waits for a timer, as most services wait for some event: one a millisecond.
    Task,
    /// By a thread that never sleeps, one after each period.
    Thread { messages: u64, period_ns: f64 },
}

type Run = fn(Pace) -> BoxFuture<'static, Result<Seen, Error>>;

/// The observations of a receiver.
struct Seen {
    latencies: Latencies,
    /// Messages for which there was no room when they were due.
    refused: u64,
    /// Messages sent a second.
    rate: f64,
}

fn contestants() -> Vec<(&'static str, Run)> {
    fn entry<C: Contestant>() -> (&'static str, Run) {
        (C::NAME, |pace| run::<C>(pace).boxed())
    }
    vec![
        entry::<Mpsc>(),
        entry::<Flume>(),
        entry::<Kanal>(),
        entry::<AsyncChannel>(),
        entry::<Crossfire>(),
        entry::<Broadcast>(),
        entry::<Bus>(),
    ]
}

/// A receiver that waits for each message.
pub(crate) fn of_a_waiting_receiver(runtime: &Runtime, rounds: usize) -> Outcome {
    for (pace, title) in [
        (Pace::Task, "from a task to a task, one message every ms"),
        (
            Pace::Thread { messages: 10_000, period_ns: 50_000.0 },
            "from a thread that never sleeps to a task that does, every 50 us",
        ),
    ] {
        println!("\n| {title} | p50 us | p99 us |\n|---|---|---|");
        let contestants = contestants();
        let mut seen: Vec<Vec<Latencies>> = contestants.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((_, run), seen) in contestants.iter().zip(&mut seen) {
                seen.push(runtime.block_on(run(pace))?.latencies);
            }
        }
        for ((name, _), rounds) in contestants.iter().zip(&seen) {
            println!("| {name} | {:.1} | {:.1} |", us(rounds, 0.5), us(rounds, 0.99));
        }
    }
    Ok(())
}

/// Latency by load.
pub(crate) fn by_load(runtime: &Runtime, rounds: usize) -> Outcome {
    println!(
        "\n| one thread that never sleeps to one task | capacity, M/s | load | p50 us | p99 us | p99.9 us | refused |\n|---|---|---|---|---|---|---|"
    );
    for (name, run) in contestants() {
        let flat_out = Pace::Thread { messages: TO_CAPACITY, period_ns: 0.0 };
        let mut capacities = Vec::new();
        for _ in 0..rounds {
            capacities.push(runtime.block_on(run(flat_out))?.rate);
        }
        let capacity = median(capacities);
        for load in LOADS {
            let rate = capacity * load;
            let pace = Pace::Thread { messages: (rate * LOAD.as_secs_f64()) as u64, period_ns: 1e9 / rate };
            let mut seen = Vec::new();
            for _ in 0..rounds {
                seen.push(runtime.block_on(run(pace))?);
            }
            let (refused, latencies): (Vec<_>, Vec<_>) =
                seen.into_iter().map(|seen| (seen.refused, seen.latencies)).unzip();
            println!(
                "| {name} | {:.2} | {:.0} % | {:.1} | {:.1} | {:.1} | {} |",
                capacity / 1e6,
                load * 100.0,
                us(&latencies, 0.5),
                us(&latencies, 0.99),
                us(&latencies, 0.999),
                refused.iter().max().unwrap_or(&0),
            );
        }
    }
    Ok(())
}

fn us(rounds: &[Latencies], quantile: f64) -> f64 {
    median(rounds.iter().map(|latency| latency.value_at_quantile(quantile) as f64)) / 1000.0
}

/// A message with the time at which it was due, padded to the same size as the others.
fn stamped(due: u64) -> Bytes {
    let mut stamped = vec![7; BYTES];
    stamped[..8].copy_from_slice(&due.to_le_bytes());
    Bytes::from(stamped)
}

/// The time since a message was due, in nanoseconds.
fn since(message: &[u8]) -> u64 {
    let due = message.first_chunk().map_or(0, |stamp| u64::from_le_bytes(*stamp));
    clock::now().saturating_sub(due)
}

async fn run<C: Contestant>(pace: Pace) -> Result<Seen, Error> {
    let Opened { mut senders, mut receivers, end } = C::open(1, 1).await?;
    let (sender, mut receiver) = (senders.remove(0), receivers.remove(0));
    let receiving = tokio::spawn(async move {
        let mut latencies = Histogram::new_with_max(LONGEST_NS, 3)?;
        let lost = receiver.receive_all(|message| latencies.saturating_record(since(message))).await;
        Ok::<_, Error>((latencies, lost))
    });
    let start = Instant::now();
    let refused = match pace {
        Pace::Task => by_timer(sender).await??,
        Pace::Thread { messages, period_ns } => on_schedule(sender, messages, period_ns).await??,
    };
    end.await?;
    let (latencies, lost) = receiving.await??;
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    Ok(Seen { latencies, refused: refused + lost, rate })
}

fn by_timer(mut sender: impl Sender) -> JoinHandle<Result<u64, Error>> {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut refused = 0;
        for _ in 0..1000 {
            ticks.tick().await;
            refused += u64::from(!sender.try_send(stamped(clock::now()))?);
        }
        Ok(refused)
    })
}

/// Sends each message when it is due. Without a period it is due when there is room.
fn on_schedule(mut sender: impl Sender, messages: u64, period_ns: f64) -> JoinHandle<Result<u64, Error>> {
    tokio::task::spawn_blocking(move || {
        let (start, mut refused) = (clock::now(), 0);
        for number in 0..messages {
            if period_ns == 0.0 {
                while !sender.try_send(stamped(clock::now()))? {
                    std::hint::spin_loop();
                }
                continue;
            }
            let due = start + (number as f64 * period_ns) as u64;
            while clock::now() < due {
                std::hint::spin_loop();
            }
            refused += u64::from(!sender.try_send(stamped(due))?);
        }
        Ok(refused)
    })
}
