//! Tests detection on streams with and without a period, fed one beat at a time.

#[path = "standing/streams.rs"]
mod streams;
#[path = "standing/systems.rs"]
mod systems;
#[path = "standing/watch.rs"]
mod watch;

use std::ops::Range;
use std::time::{Duration, Instant};

use aether::physics::{Finding, StandingOptions, StandingWaves};
use aether_core::{Channel, Source};
use fastrand::Rng;

use super::page::say;
use super::{Outcome, goal, quantile};
use streams::{NULLS, Periodic};

/// Streams for each seed and row.
const STREAMS: usize = 100;
/// The number of beats within which a stream must be found.
const BEATS: usize = 128;
/// The number of beats of a stream without a period. Such a stream is judged repeatedly.
const NULL_BEATS: usize = 512;
/// The number of streams watched for missing beats for each seed, and the beats of each.
const WATCHED: usize = 20;
const WATCHED_BEATS: usize = 2500;
/// The period of all streams, in seconds.
const PERIOD: f64 = 1.0;

/// A detector with one stream.
struct Stage {
    detector: StandingWaves,
    channel: Channel,
    source: Source,
    start: Instant,
}

impl Stage {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self {
            detector: StandingWaves::new(StandingOptions::default())?,
            channel: Channel::new("stock.alive")?,
            source: Source::with_instance("stock", 1)?,
            start: Instant::now(),
        })
    }

    /// Collects all findings up to and including a moment.
    fn until(&mut self, now: Instant, findings: &mut Vec<Finding>) {
        while let Some(due) = self.detector.next_change().filter(|due| *due <= now) {
            findings.extend(self.detector.tick(due));
        }
    }

    fn beat(&mut self, at: f64, findings: &mut Vec<Finding>) {
        let now = self.start + Duration::from_secs_f64(at);
        self.until(now, findings);
        self.detector.beat(&self.channel, &self.source, Duration::ZERO, now);
        self.until(now, findings);
    }

    /// The detected period at the end of a stream, as a fraction of the true one.
    fn period(&self) -> Option<f64> {
        Some(self.detector.stream(&self.channel, &self.source)?.period.as_secs_f64() / PERIOD)
    }
}

pub(super) fn run(seeds: Range<u64>) -> Outcome {
    let mut goals = Vec::new();
    say!("Seeds {seeds:?}.\n");
    say!("| stream of {BEATS} beats | streams | found | period within 3 % |\n|---|---|---|---|");
    for stream in Periodic::ALL {
        let (mut found, mut right, mut all) = (0, 0, 0);
        for seed in seeds.clone() {
            let mut random = Rng::with_seed(seed);
            for _ in 0..STREAMS {
                let mut stage = Stage::new()?;
                let mut findings = Vec::new();
                stream
                    .beats(BEATS, PERIOD, &mut random)
                    .into_iter()
                    .for_each(|at| stage.beat(at, &mut findings));
                let period = stage.period();
                all += 1;
                found += u32::from(period.is_some());
                right += u32::from(period.is_some_and(|period| (period - 1.0).abs() < 0.03));
            }
        }
        let (found, right) = (f64::from(found) / f64::from(all), f64::from(right) / f64::from(all));
        say!("| {stream} | {all} | {found:.3} | {right:.3} |");
        if stream.is_goal() {
            goals.push((
                format!("period within 3 %, {stream}"),
                format!("{right:.3}"),
                ">= 0.95",
                right >= 0.95,
            ));
        }
    }
    nulls(seeds.clone(), &mut goals)?;
    missing(seeds.clone(), &mut goals)?;
    watch::systems(seeds.clone(), &mut goals)?;
    watch::changes(seeds.clone(), &mut goals)?;
    costs(seeds.start, &mut goals)?;
    say!("\n| goal | measured | wanted | reached |\n|---|---|---|---|");
    for (what, measured, wanted, reached) in goals {
        goal(&what, measured, wanted, reached);
    }
    Ok(())
}

type Goals = Vec<(String, String, &'static str, bool)>;

/// Streams without a period, each judged about a dozen times.
fn nulls(seeds: Range<u64>, goals: &mut Goals) -> Outcome {
    say!("\n| stream of {NULL_BEATS} waves without a period | streams | taken for standing |\n|---|---|---|");
    let (mut all, mut wrong) = (0, 0);
    for (name, generate) in NULLS {
        let (mut streams, mut standing) = (0, 0);
        for seed in seeds.clone() {
            let mut random = Rng::with_seed(seed);
            for _ in 0..STREAMS {
                let mut stage = Stage::new()?;
                let mut findings = Vec::new();
                generate(NULL_BEATS, &mut random).into_iter().for_each(|at| stage.beat(at, &mut findings));
                streams += 1;
                standing += u32::from(findings.iter().any(|finding| matches!(finding, Finding::Standing(_))));
            }
        }
        say!("| {name} | {streams} | {standing} |");
        all += streams;
        wrong += standing;
    }
    let rate = 1000.0 * f64::from(wrong) / f64::from(all);
    goals.push((
        "false among 1,000 streams without a period".into(),
        format!("{rate:.2}"),
        "<= 1",
        rate <= 1.0,
    ));
    Ok(())
}

/// Measures how quickly a silence is reported, and how often a false one is.
fn missing(seeds: Range<u64>, goals: &mut Goals) -> Outcome {
    say!(
        "\n| missing beats | beats | false alarms a beat | streams stopped | reported | silence p50, periods | max |\n|---|---|---|---|---|---|---|"
    );
    for stream in Periodic::WATCHED {
        let (mut beats, mut alarms, mut stopped) = (0u64, 0u64, 0);
        let mut silences = Vec::new();
        for seed in seeds.clone() {
            let mut random = Rng::with_seed(seed);
            for _ in 0..WATCHED {
                let mut stage = Stage::new()?;
                let mut findings = Vec::new();
                let times = stream.beats(WATCHED_BEATS, PERIOD, &mut random);
                times.iter().for_each(|at| stage.beat(*at, &mut findings));
                let is_missing = |finding: &&Finding| matches!(finding, Finding::MissingBeat { .. });
                alarms += findings.iter().filter(is_missing).count() as u64;
                beats += times.len() as u64;
                findings.clear();
                stopped += 1;
                let last = times.last().copied().unwrap_or_default();
                stage.until(stage.start + Duration::from_secs_f64(last + 100.0 * PERIOD), &mut findings);
                silences.extend(findings.iter().filter_map(|finding| match finding {
                    Finding::MissingBeat { silence, .. } => Some(silence.as_secs_f64() / PERIOD),
                    _ => None,
                }));
            }
        }
        let rate = alarms as f64 / beats as f64;
        let (reported, p50) = (silences.len(), quantile(&mut silences, 0.5));
        let longest = quantile(&mut silences, 1.0);
        say!("| {stream} | {beats} | {rate:.1e} | {stopped} | {reported} | {p50:.2} | {longest:.2} |");
        if stream.is_goal() && !stream.skips() {
            let all = reported == stopped;
            goals.push((
                format!("missing beat, {stream}"),
                format!("{longest:.2} periods"),
                "<= 3.5 periods, all",
                longest <= 3.5 && all,
            ));
            goals.push((
                format!("false alarms a beat, {stream}"),
                format!("{rate:.1e}"),
                "< 1e-4",
                rate < 1e-4,
            ));
        }
    }
    Ok(())
}

/// Measures the time of one search of a full stream, and of a wave that triggers no search.
fn costs(seed: u64, goals: &mut Goals) -> Outcome {
    say!("\n| cost | p50 | max |\n|---|---|---|");
    let mut random = Rng::with_seed(seed);
    let (mut least, mut worst, mut most) = (f64::INFINITY, 0.0f64, 0.0f64);
    let mut of_fold = |name: String, mut times: Vec<Vec<f64>>| -> Outcome {
        let mut micros = Vec::new();
        for times in &mut times {
            let mut stage = Stage::new()?;
            // No search runs before the last beat has arrived, so the measured search covers a full stream.
            for at in times.iter() {
                let now = stage.start + Duration::from_secs_f64(*at);
                stage.detector.beat(&stage.channel, &stage.source, Duration::ZERO, now);
            }
            let begin = Instant::now();
            let found = stage.detector.tick(stage.start + Duration::from_secs_f64(times[times.len() - 1]));
            micros.push(begin.elapsed().as_nanos() as f64 / 1e3);
            std::hint::black_box(found);
        }
        let (p50, max) = (quantile(&mut micros, 0.5), quantile(&mut micros, 1.0));
        println!("| one fold, {name} | {p50:.0} us | {max:.0} us |");
        (least, worst, most) = (least.min(p50), worst.max(p50), most.max(max));
        Ok(())
    };
    for stream in Periodic::ALL {
        of_fold(stream.to_string(), (0..50).map(|_| stream.beats(BEATS, PERIOD, &mut random)).collect())?;
    }
    for (name, generate) in NULLS {
        of_fold(name.to_owned(), (0..50).map(|_| generate(BEATS, &mut random)).collect())?;
    }
    say!("| one fold, of each kind of stream | {least:.0} to {worst:.0} us | {most:.0} us |");
    let mut nanos = Vec::new();
    let sources = (1..=1000).map(|n| Source::with_instance("stock", n)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..5 {
        let mut stage = Stage::new()?;
        let begin = Instant::now();
        for round in 0..200u64 {
            for (index, source) in sources.iter().enumerate() {
                let now = stage.start + Duration::from_micros(1_000_000 * round + 13 * index as u64);
                stage.detector.beat(&stage.channel, source, Duration::ZERO, now);
                while stage.detector.next_change().is_some_and(|due| due <= now) {
                    std::hint::black_box(stage.detector.tick(now));
                }
            }
        }
        nanos.push(begin.elapsed().as_nanos() as f64 / 200_000.0);
    }
    say!(
        "| a wave of a heartbeat, all included | {:.0} ns | {:.0} ns |",
        quantile(&mut nanos, 0.5),
        quantile(&mut nanos, 1.0)
    );
    goals.push((
        "one fold, median of the slowest kind".into(),
        format!("{worst:.0} us"),
        "< 300 us",
        worst < 300.0,
    ));
    Ok(())
}
