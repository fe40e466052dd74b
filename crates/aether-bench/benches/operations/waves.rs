//! The cost of metrics and traces for a wave, from `emit` to the end of an empty handler, in process and on one thread.
//!
//! The modes are processes of their own that take turns with batches of waves, so that they share every state of the
//! machine. A figure is the median over all turns of the difference between two modes.

use std::io::BufRead as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aether_bench::{DEFAULT_BYTES, median};
use aether_core::wave::TraceContext;
use aether_core::{Aether, Channel, Emitter, Wave};
use aether_service::{CancellationToken, Service, telemetry};
use bytes::Bytes;
use clap::ValueEnum;
use tokio::sync::Notify;

use crate::Outcome;
use crate::goal::Goals;
use crate::part::Part;

const CHANNEL: &str = "orders.created";
/// The waves of a turn: about 50 ms.
const WAVES: u64 = 200_000;
/// The waves that are emitted before their handlers run.
const BURST: u64 = 64;
/// The turns of each process.
const TURNS: usize = 16;

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Nothing.
    Plain,
    /// The histograms of waits, handling and transit.
    Metered,
    /// The same; telemetry is on, and all waves belong to a trace that is not sampled.
    Unsampled,
    /// The same; telemetry is on, and each wave begins a trace that is not sampled.
    Roots,
}

const MODES: [Mode; 4] = [Mode::Plain, Mode::Metered, Mode::Unsampled, Mode::Roots];

/// Waves of the burst that still have to be handled.
static LEFT: AtomicU64 = AtomicU64::new(0);
static DONE: Notify = Notify::const_new();

async fn handle(wave: Wave) {
    assert_eq!(wave.payload().len(), DEFAULT_BYTES);
    if LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        DONE.notify_one();
    }
}

/// Handles a batch of waves for each line of stdin, and prints what a wave took in nanoseconds.
pub(crate) fn serve(mode: Mode) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if matches!(mode, Mode::Unsampled | Mode::Roots) {
        // Nobody listens there, and nothing is sampled that would have to go there.
        telemetry::start("http://127.0.0.1:1", "bench")?;
    }
    let aether = Aether::local();
    let service = runtime.block_on(Service::builder("orders").on(CHANNEL, handle).build(&aether))?;
    let counters = service.counters();
    if mode != Mode::Plain {
        let _ = counters.timings();
    }
    let mut emitter = aether.emitter("shop")?;
    if mode == Mode::Unsampled {
        emitter = emitter.within_trace(TraceContext::new(17, 4, 0)?);
    }
    let shutdown = CancellationToken::new();
    let running = runtime.spawn(service.run_until(shutdown.clone()));
    let mut handled = 0;
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        runtime.block_on(emit(&emitter))?;
        handled += WAVES;
        println!("took {}", start.elapsed().as_nanos() as f64 / WAVES as f64);
    }
    shutdown.cancel();
    let report = runtime.block_on(running)??;
    assert_eq!((report.received, report.succeeded), (handled, handled), "{report}");
    Ok(())
}

async fn emit(emitter: &Emitter) -> Outcome {
    let (channel, payload) = (Channel::new(CHANNEL)?, Bytes::from(vec![7; DEFAULT_BYTES]));
    for _ in 0..WAVES / BURST {
        LEFT.store(BURST, Ordering::Relaxed);
        for _ in 0..BURST {
            emitter.emit(Wave::from_bytes(&channel, payload.clone())?).await?;
        }
        while LEFT.load(Ordering::Relaxed) > 0 {
            DONE.notified().await;
        }
    }
    Ok(())
}

/// Adds the costs of metrics and traces.
pub(crate) fn measure(restarts: usize, goals: &mut Goals) -> Outcome {
    if restarts == 0 {
        return Err("--restarts must be at least 1".into());
    }
    // By mode.
    let mut turns: [Vec<f64>; MODES.len()] = Default::default();
    for restart in 0..restarts {
        eprintln!("waves: {} of {restarts}", restart + 1);
        let mut parts = Vec::new();
        for mode in MODES {
            let name = mode.to_possible_value().ok_or("a mode without a name")?;
            let sampler = [("OTEL_TRACES_SAMPLER", "always_off")];
            parts.push(Part::of_this(&["--mode", name.get_name()], &sampler)?);
        }
        // The first turn warms up.
        for turn in 0..=TURNS {
            for offset in 0..MODES.len() {
                let mode = (turn + offset) % MODES.len();
                parts[mode].say("go")?;
                let took: f64 = parts[mode].says("took")?.parse()?;
                if turn > 0 {
                    turns[mode].push(took);
                }
            }
        }
    }
    let of = |mode: Mode| turns[mode as usize].clone();
    let more =
        |mode: Mode, than: Mode| median(of(mode).into_iter().zip(of(than)).map(|(one, two)| one - two));
    let turns = restarts * TURNS;
    let how =
        format!("median of {turns} turns of {WAVES} waves; a wave takes {:.0} ns", median(of(Mode::Plain)));
    goals.below("metrics: a wave", 30.0, more(Mode::Metered, Mode::Plain), "ns", how);
    let how = "telemetry on, the wave belongs to an unsampled trace; against metrics alone".to_owned();
    goals.below("a trace that is not sampled: a wave", 20.0, more(Mode::Unsampled, Mode::Metered), "ns", how);
    let how = "telemetry on, each wave asks the sampler and begins a trace; against metrics alone".to_owned();
    let roots = format!("{:.2} ns", more(Mode::Roots, Mode::Metered));
    goals.shown("the beginning of a trace that is not sampled", roots, how);
    Ok(())
}
