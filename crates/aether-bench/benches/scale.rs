//! Measures costs that grow with the number of channels, patterns, vibrators and hearers, in process: 1 to 100,000 of
//! each, and 1 to 16,384 patterns of one vibrator that all match the channel.
//!
//! `cargo xtask bench scale` prints a table. For each number, it shows the cost of an emit, the cost of the first
//! emit after a vibrator has joined by the matching pattern, the cost of such a join, and the memory per item.

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aether_bench::{Table, median, replaced};
use aether_core::{Aether, Channel, Vibrator, Wave};
use clap::Parser;
use futures::FutureExt;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures costs that grow with the number of channels, patterns, vibrators and hearers.
#[derive(Debug, Parser)]
struct Args {
    /// One curve only: `channels`, `patterns`, `matching`, `vibrators` or `hearers`.
    only: Option<String>,
    /// The largest number of items.
    #[arg(long, default_value_t = 100_000)]
    most: usize,
    /// Write the table into docs/internals/benchmarks.md in this source folder. Without it, nothing is written.
    #[arg(long)]
    into: Option<PathBuf>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Inboxes hold 65,536 waves and are emptied after this many, so that no emit waits.
const BATCH: usize = 1000;
/// The number of waves offered for each number of items. Fewer are emitted if each wave is offered to many hearers.
const OFFERS: usize = 1_000_000;
/// The number of joins measured for each number of items.
const JOINS: usize = 21;
/// The maximum number of patterns per vibrator, because the cost of its joins grows with them.
const PATTERNS_OF_ONE: usize = 100;

/// The maximum number of patterns that match one channel: a vibrator has no more.
const MATCHING: usize = 16_384;

/// The set-up for one number of items.
struct Scene {
    /// The vibrators that receive the emitted waves.
    hearers: Vec<Vibrator>,
    /// Vibrators that only occupy memory.
    _others: Vec<Vibrator>,
    channels: Vec<Channel>,
    /// The pattern used for the measured joins.
    pattern: String,
    /// The memory per item, in bytes.
    memory: Option<f64>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut table = Table::new(&[
        "curve",
        "how many",
        "an emit, ns",
        "the first after a join, us",
        "the slowest of those, us",
        "a join, us",
        "memory each, bytes",
    ]);
    for curve in ["channels", "patterns", "matching", "vibrators", "hearers"] {
        if args.only.as_deref().is_some_and(|only| only != curve) {
            continue;
        }
        let mut counts: Vec<usize> = std::iter::successors(Some(1), |count| Some(count * 10))
            .take_while(|n| *n <= args.most)
            .collect();
        if curve == "matching" {
            counts.retain(|count| *count < MATCHING);
            counts.extend((args.most >= MATCHING).then_some(MATCHING));
        }
        for count in counts {
            eprintln!("{count} {curve}");
            table.row(runtime.block_on(measure(curve, count))?);
        }
    }
    let shown = format!(
        "One thread; medians. For the columns about joins a vibrator joins the pattern of the wave {JOINS} times. With N hearers \
         an emit offers the wave N times.\n\n{}",
        table.markdown()
    );
    println!("<!-- scale: begin -->\n\n{shown}\n<!-- scale: end -->");
    if let Some(root) = args.into {
        let path = root.join("docs/internals/benchmarks.md");
        let document = replaced(&std::fs::read_to_string(&path)?, "scale", &shown)?;
        std::fs::write(path, document)?;
    }
    Ok(())
}

async fn measure(curve: &str, count: usize) -> Outcome<Vec<String>> {
    let aether = Aether::local();
    let mut scene = set_up(curve, count, &aether).await?;
    let shop = Vibrator::create("shop", &aether).await?;
    let offers = if curve == "hearers" { count } else { 1 };
    let emits = (OFFERS / offers).clamp(5, 2 * scene.channels.len().max(OFFERS / 4));
    let mut next = 0;
    let mut costs = Vec::new();
    let mut emitted = 0;
    while emitted < emits {
        let batch = BATCH.min(emits - emitted);
        let start = Instant::now();
        for _ in 0..batch {
            emit(&shop, &scene.channels[next % scene.channels.len()]).await?;
            next += 1;
        }
        costs.push(start.elapsed().as_nanos() as f64 / batch as f64);
        emitted += batch;
        scene.empty();
    }
    // By now, the cache holds the channels used. The first round filled it.
    let settled = costs.split_off(costs.len() / 2);
    let (mut joins, mut firsts) = (Vec::new(), Vec::new());
    for _ in 0..JOINS {
        emit(&shop, &scene.channels[0]).await?;
        let late = Vibrator::create("late", &aether).await?;
        joins.push(timed(late.resonate_on(&*scene.pattern)).await.1);
        let first = timed(emit(&shop, &scene.channels[0])).await.1;
        let second = timed(emit(&shop, &scene.channels[0])).await.1;
        // With many hearers, the offers dominate the cost rather than the join.
        firsts.push(first.saturating_sub(if curve == "hearers" { second } else { Duration::ZERO }));
        drop(late);
        scene.empty();
    }
    let us = |times: &[Duration]| median(times.iter().map(|time| time.as_nanos() as f64 / 1e3));
    let slowest = firsts.iter().max().copied().unwrap_or_default();
    Ok(vec![
        curve.to_owned(),
        count.to_string(),
        format!("{:.0}", median(settled)),
        format!("{:.1}", us(&firsts)),
        format!("{:.1}", slowest.as_nanos() as f64 / 1e3),
        format!("{:.1}", us(&joins)),
        scene.memory.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}")),
    ])
}

async fn emit(shop: &Vibrator, channel: &Channel) -> Outcome<()> {
    black_box(shop.emit(Wave::builder(channel).build()?).await?);
    Ok(())
}

async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let done = what.await;
    (done, start.elapsed())
}

/// Creates the given number of items and a vibrator that hears the channels.
async fn set_up(curve: &str, count: usize, aether: &Aether) -> Outcome<Scene> {
    let hearer = Vibrator::create("hearer", aether).await?;
    hearer.resonate_on("heard.*").await?;
    let mut scene = Scene {
        hearers: vec![hearer],
        _others: Vec::new(),
        channels: vec![Channel::new("heard.a")?],
        pattern: "heard.*".to_owned(),
        memory: None,
    };
    let before = resident();
    match curve {
        "channels" => {
            let channels = (0..count).map(|number| Channel::new(format!("heard.{number}")));
            scene.channels = channels.collect::<Result<_, _>>()?;
        }
        "patterns" => {
            for number in 0..count {
                if number % PATTERNS_OF_ONE == 0 {
                    scene._others.push(Vibrator::create("other", aether).await?);
                }
                if let Some(other) = scene._others.last() {
                    other.resonate_on(format!("other.{number}.*")).await?;
                }
            }
        }
        "matching" => {
            scene.hearers[0].detune("heard.*")?;
            scene.channels = vec![Channel::new(["a"; 16].join("."))?];
            scene.pattern = scene.channels[0].to_string();
            for number in 0..count {
                let token = |place: usize| if number >> place & 1 == 0 { "*" } else { "a" };
                let tokens: Vec<_> = (0..16).map(token).collect();
                scene.hearers[0].resonate_on(tokens.join(".")).await?;
            }
        }
        "vibrators" => {
            for number in 0..count {
                let other = Vibrator::create("other", aether).await?;
                other.resonate_on(format!("other.{number}")).await?;
                scene._others.push(other);
            }
        }
        _ => {
            for _ in 1..count {
                let hearer = Vibrator::create("hearer", aether).await?;
                hearer.resonate_on("heard.*").await?;
                scene.hearers.push(hearer);
            }
        }
    }
    if count >= 1000 && curve != "channels" {
        scene.memory = before.zip(resident()).map(|(before, after)| (after - before) / count as f64);
    }
    Ok(scene)
}

impl Scene {
    fn empty(&mut self) {
        for hearer in &mut self.hearers {
            while hearer.receive().now_or_never().is_some() {}
        }
    }
}

/// The resident memory of this process in bytes, if the system provides the figure.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}
