//! A durable queue in a folder under overload: how long waves of each strength wait, and which part of them is done.
//!
//! `cargo xtask bench queue`
//!
//! One handler is busy for a millisecond with each wave. It is offered from half of what it can do to four times that: due
//! times are drawn in advance, and a wave waits from then until its handling begins. Three consumers get the same waves: by
//! strength with ageing, in the order of the log (no ageing), and by strength alone (ageing of a day).
//!
//! Waits are the ones of waves that are done when the time of a load is over.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::sync::Arc;
use std::time::Duration;

use aether_bench::{Arrival, Phase, Schedule, Strength, Work};
use aether_core::{Durability, Emitter, Wave};
use aether_log::{Consumer, ConsumerOptions, Log};
use clap::Parser;
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep_until, timeout_at};

const LOADS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

#[derive(Debug, Parser)]
struct Args {
    /// How long each load is offered, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The share of strong waves. At four times the capacity, they alone are more than the handler can do.
    #[arg(long, default_value_t = 0.3)]
    strong: f64,
    /// For how long strong waves overtake a weak one, as a part of the time of a load. A weak wave is eight levels weaker.
    #[arg(long, default_value_t = 0.2)]
    overtaken: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Emits each wave when it is due.
async fn emit(emitter: Emitter, arrivals: Arc<[Arrival]>, begin: Instant) {
    let due = |number: usize| begin + Duration::from_nanos(arrivals[number].due);
    let mut next = 0;
    while next < arrivals.len() {
        sleep_until(due(next)).await;
        let now = Instant::now();
        let end = (next..arrivals.len()).find(|number| due(*number) > now).unwrap_or(arrivals.len());
        let waves = (next..end).map(|number| {
            let wave = Wave::builder("jobs.run").amplitude(arrivals[number].strength.amplitude());
            emitter.emit(wave.json(number).build().unwrap())
        });
        try_join_all(waves).await.unwrap();
        next = end;
    }
}

/// Handles waves until an instant. Returns how long each has waited, by number.
async fn handle(
    consumer: Consumer,
    work: Work,
    arrivals: Arc<[Arrival]>,
    begin: Instant,
    end: Instant,
) -> Vec<Option<Duration>> {
    let mut waited = vec![None; arrivals.len()];
    // A wave that is there is received even when the time is over.
    while Instant::now() < end
        && let Ok(delivery) = timeout_at(end, consumer.receive()).await
    {
        let delivery = delivery.unwrap();
        let number: usize = delivery.wave().json().unwrap();
        waited[number] = Some(begin.elapsed().saturating_sub(Duration::from_nanos(arrivals[number].due)));
        work.handle();
        tokio::spawn(delivery.ack_soon());
    }
    waited
}

/// The waits of a consumer with this ageing.
fn measure(
    arrivals: &Arc<[Arrival]>,
    lasts: Duration,
    ageing: Duration,
    work: Work,
) -> Vec<Option<Duration>> {
    let parent = std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into());
    let folder = tempfile::tempdir_in(parent).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let log = Log::builder(folder.path()).channels("jobs.>", Durability::Stored).unwrap().open().unwrap();
    let aether = runtime.block_on(log.connect(aether::builder().url("local:"))).unwrap();
    let consumer = log.consumer("worker", "jobs.>", ConsumerOptions::default().ageing(ageing)).unwrap();
    let begin = Instant::now();
    let emitting = runtime.spawn(emit(aether.emitter("shop").unwrap(), Arc::clone(arrivals), begin));
    let handling = handle(consumer, work, Arc::clone(arrivals), begin, begin + lasts);
    // On this thread, which the others do not need.
    let waited = runtime.block_on(handling);
    emitting.abort();
    runtime.shutdown_timeout(Duration::from_secs(10));
    waited
}

/// The wait at this rank.
fn at(waits: &[Duration], rank: f64) -> String {
    let place = (waits.len().saturating_sub(1) as f64 * rank) as usize;
    waits.get(place).map_or("none".to_owned(), |wait| format!("{:.1} ms", wait.as_secs_f64() * 1e3))
}

fn main() {
    let args = Args::parse();
    let work = Work { service: Duration::from_millis(1) };
    let capacity = work.capacity().unwrap();
    let lasts = Duration::from_secs_f64(args.seconds);
    let overtaken = lasts.mul_f64(args.overtaken);
    let orders = [
        ("by strength, with ageing", overtaken / 8),
        ("in the order of the log", Duration::ZERO),
        ("by strength alone", Duration::from_secs(86_400)),
    ];
    println!(
        "Handler: 1 ms a wave, {capacity:.0} a second; {:.0} % strong (1.0, the others 0.25),",
        args.strong * 100.0
    );
    println!(
        "{lasts:?} a load, seed {}. With ageing, a weak wave is overtaken for {overtaken:?}.\n",
        args.seed
    );
    println!("| load | | strong done | strong p50 | strong p99 | weak done | weak p50 | weak p99 |");
    println!("|---|---|---|---|---|---|---|---|");
    for load in LOADS {
        let phase = Phase { rate: load * capacity, lasts };
        let schedule = Schedule::poisson(&[phase], args.strong, args.seed).unwrap();
        let arrivals: Arc<[Arrival]> = schedule.arrivals().into();
        for (name, ageing) in orders {
            let waited = measure(&arrivals, lasts, ageing, work);
            print!("| {load}x | {name} |");
            for strength in Strength::ALL {
                let of = || arrivals.iter().zip(&waited).filter(|(arrival, _)| arrival.strength == strength);
                let mut waits: Vec<Duration> = of().filter_map(|(_, wait)| *wait).collect();
                waits.sort();
                let done = 100.0 * waits.len() as f64 / of().count().max(1) as f64;
                let [p50, p99] = [0.5, 0.99].map(|rank| at(&waits, rank));
                print!(" {done:.1} % | {p50} | {p99} |");
            }
            println!();
        }
    }
}
