//! Measures the cost of an observer with the engine on a bus at full load.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aether::physics::PhysicsObserver;
use aether::physics::{PhysicsEngine, Sampling};
use aether_core::{Aether, Vibrator, Wave};

use super::page::say;
use super::{Outcome, goal, quantile};

const ROUNDS: usize = 3;
/// The duration of the load in a round without an observer and in one with it. It covers several looks, which are
/// eight seconds apart on a bus this fast.
const ALONE: Duration = Duration::from_secs(12);
const OBSERVED: Duration = Duration::from_secs(33);
/// The duration of a round at a pace at which the engine takes in every wave.
const PACED: Duration = Duration::from_secs(4);
/// 50,000 waves per second.
const PACE: Duration = Duration::from_micros(20);
/// The number of waves between two reads of the clock.
const STRIDE: u32 = 64;

/// The result of a round: waves per second, and the looks of the observer.
struct Round {
    rate: f64,
    sampling: Option<Sampling>,
}

/// Runs in process, where an observer shares the processors with the clients it observes.
pub(super) fn run(_: Range<u64>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut alone, mut observed, mut looks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Alternate the rounds, so that other load on the machine affects both.
        alone.push(runtime.block_on(busy(false, ALONE, None))?.rate);
        let round = runtime.block_on(busy(true, OBSERVED, None))?;
        observed.push(round.rate);
        looks.extend(round.sampling);
    }
    let (alone, observed) = (quantile(&mut alone, 0.5), quantile(&mut observed, 0.5));
    let times: Vec<String> = looks.iter().map(|sampling| (sampling.times_away).to_string()).collect();
    let mut parts: Vec<f64> = looks.iter().map(Sampling::rate).collect();
    let seconds: f64 = looks.iter().map(|sampling| sampling.looked.as_secs_f64()).sum();
    let count: f64 = looks.iter().map(|sampling| sampling.times_away as f64).sum();
    say!(
        "| in process, as fast as it goes | waves/s | for | looks | a look took | of the time |\n|---|---|---|---|---|---|"
    );
    say!("| nobody observes | {alone:.0} | {ROUNDS} x {} s | | | |", ALONE.as_secs());
    say!(
        "| an observer with the engine | {observed:.0} | {ROUNDS} x {} s | {} | {:.2} s | {:.1} % |",
        OBSERVED.as_secs(),
        times.join(", "),
        seconds / count,
        100.0 * quantile(&mut parts, 0.5),
    );
    let mut late = Vec::new();
    for _ in 0..ROUNDS {
        let without = runtime.block_on(busy(false, PACED, Some(PACE)))?.rate;
        let with = runtime.block_on(busy(true, PACED, Some(PACE)))?.rate;
        late.push(1.0 - with / without);
    }
    let loss = quantile(&mut late, 0.5);
    say!("\n| goal | measured | wanted | reached |\n|---|---|---|---|");
    goal("loss of throughput at 50,000 waves/s", format!("{:.1} %", 100.0 * loss), "< 5 %", loss < 0.05);
    let saturated = 1.0 - observed / alone;
    goal(
        "loss of throughput as fast as it goes",
        format!("{:.1} %", 100.0 * saturated),
        "< 5 %",
        saturated < 0.05,
    );
    Ok(())
}

/// Runs one sender and one receiver for a time. The measurement ends with the last wave received.
async fn busy(
    is_observed: bool,
    time: Duration,
    pace: Option<Duration>,
) -> Result<Round, Box<dyn std::error::Error>> {
    let aether = Aether::local();
    let mut receiver = Vibrator::create("receiver", &aether).await?;
    receiver.resonate_on("bench.*").await?;
    let mut watching = None;
    if is_observed {
        let mut observer = PhysicsObserver::open("observer", ">", PhysicsEngine::default(), &aether).await?;
        watching = Some(tokio::spawn(async move {
            while observer.advance(256).await?.is_some() {
                while observer.found().is_some() {}
            }
            Ok::<_, aether_core::JoinError>(observer.sampling())
        }));
    }
    let sender = Vibrator::create("sender", &aether).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn({
        let is_over = Arc::clone(&is_over);
        async move {
            let wave = Wave::from_bytes("bench.a", vec![0_u8; 64])?;
            let start = Instant::now();
            let mut number = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                if let Some(pace) = pace {
                    let due = start + pace * number;
                    if due > Instant::now() {
                        tokio::time::sleep_until(due.into()).await;
                    }
                }
                sender.emit(wave.clone()).await?;
                number += 1;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        }
    });
    let (start, mut waves) = (Instant::now(), 0_u64);
    let took = loop {
        for _ in 0..STRIDE {
            receiver.receive().await.ok_or("the medium was closed")?;
        }
        waves += u64::from(STRIDE);
        let took = start.elapsed();
        if took >= time {
            break took;
        }
    };
    is_over.store(true, Ordering::Relaxed);
    // Dropping the receiver frees the queue, which makes room for the wave the sender is waiting to emit.
    drop(receiver);
    sending.await?.map_err(|error| error.to_string())?;
    aether.close().await?;
    let sampling = match watching {
        Some(watching) => Some(watching.await??),
        None => None,
    };
    Ok(Round { rate: waves as f64 / took.as_secs_f64(), sampling })
}
