//! The time from sending to receiving, where the receiver is faster than the sender.

use std::time::{Duration, Instant};

use aether_bench::{clock, median};
use aether_core::{Aether, Vibrator, Wave};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{BYTES, CHANNEL, Error, Outcome, ROUNDS};

pub(crate) fn latency(runtime: &Runtime) -> Outcome {
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
