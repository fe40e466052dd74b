//! What an observer with the engine costs a bus that is as busy as it can be.

use std::ops::Range;
use std::time::{Duration, Instant};

use aether_core::physics::PhysicsEngine;
use aether_core::{Aether, InboxOptions, Order, Vibrator, Wave, WhenFull};

use super::page::say;
use super::{Outcome, goal, quantile};

const WAVES: usize = 400_000;
const ROUNDS: usize = 5;

/// In process, where an observer shares the processors with those it observes.
pub(super) fn run(_: Range<u64>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut alone, mut observed, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // By turns, so that what else the machine does meets both.
        alone.push(runtime.block_on(throughput(false, None))?.0);
        let (waves, rate) = runtime.block_on(throughput(true, None))?;
        observed.push(waves);
        rates.push(rate);
    }
    let (alone, observed, rate) =
        (quantile(&mut alone, 0.5), quantile(&mut observed, 0.5), quantile(&mut rates, 0.5));
    say!("| in process, as fast as it goes | waves/s | looked at |\n|---|---|---|");
    say!("| nobody observes | {alone:.0} | |");
    say!("| an observer with the engine | {observed:.0} | {:.1} % |", 100.0 * rate);
    let pace = Duration::from_micros(20);
    let mut late = Vec::new();
    for _ in 0..ROUNDS {
        let (without, _) = runtime.block_on(throughput(false, Some(pace)))?;
        let (with, _) = runtime.block_on(throughput(true, Some(pace)))?;
        late.push(1.0 - with / without);
    }
    let loss = quantile(&mut late, 0.5);
    say!("\n| goal | measured | wanted | reached |\n|---|---|---|---|");
    goal("loss of throughput at 50,000 waves/s", format!("{:.1} %", 100.0 * loss), "< 5 %", loss < 0.05);
    let saturated = 1.0 - observed / alone;
    goal(
        "loss of throughput as fast as it goes",
        format!("{:.0} %", 100.0 * saturated),
        "< 5 %",
        saturated < 0.05,
    );
    Ok(())
}

/// Waves a second from one sender to one receiver, and which share of them the engine looked at.
async fn throughput(
    is_observed: bool,
    pace: Option<Duration>,
) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let aether = Aether::local();
    let mut receiver = Vibrator::create("receiver", &aether).await?;
    receiver.resonate_on("bench.*").await?;
    let mut watching = None;
    if is_observed {
        let inbox = InboxOptions::interactive().order(Order::Arrival).when_full(WhenFull::Shed);
        let mut observer = Vibrator::builder("observer").inbox(inbox).observe().create(&aether).await?;
        observer.resonate_on(">").await?;
        watching = Some(tokio::spawn(async move {
            let mut engine = PhysicsEngine::default();
            while let Some(wave) = observer.receive().await {
                engine.observe(&wave, Instant::now());
            }
            engine.report().sampling.rate()
        }));
    }
    let waves = if pace.is_some() { WAVES / 8 } else { WAVES };
    let sender = Vibrator::create("sender", &aether).await?;
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        let wave = Wave::from_bytes("bench.a", vec![0_u8; 64])?;
        for number in 0..waves {
            if let Some(pace) = pace {
                let due = start + pace * u32::try_from(number).unwrap_or(u32::MAX);
                if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                }
            }
            sender.emit(wave.clone()).await?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    for _ in 0..waves {
        receiver.receive().await.ok_or("the medium was closed")?;
    }
    let took = start.elapsed();
    sending.await?.map_err(|error| error.to_string())?;
    aether.close().await?;
    let rate = match watching {
        Some(watching) => watching.await?,
        None => 1.0,
    };
    Ok((waves as f64 / took.as_secs_f64(), rate))
}
