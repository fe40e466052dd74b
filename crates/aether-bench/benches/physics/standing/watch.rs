//! Watches systems of several streams, and compares the findings with the truth.

use std::ops::Range;
use std::time::{Duration, Instant};

use aether::physics::{Finding, StandingOptions, StandingWave, StandingWaves};
use aether_core::{Channel, Source};
use fastrand::Rng;

use super::super::page::say;
use super::super::random::normal;
use super::super::{Outcome, quantile};
use super::Goals;
use super::systems::{SYSTEMS, Stop, System};

/// The findings in the systems of one kind.
#[derive(Default)]
struct Score {
    waves: usize,
    false_alarms: usize,
    stops: usize,
    noticed: usize,
    /// Findings about stops.
    findings: usize,
    /// The silences of the first findings, in seconds and in periods.
    silences: Vec<f64>,
    periods: Vec<f64>,
}

impl Score {
    fn count(&mut self, system: &System, findings: &[(f64, Finding)]) {
        let missing: Vec<_> = findings
            .iter()
            .filter_map(|(at, finding)| match finding {
                Finding::MissingBeat { stream, silence, .. } => {
                    Some((*at, number(stream), silence.as_secs_f64()))
                }
                _ => None,
            })
            .collect();
        // A stall is reported at its end at the latest.
        let is_of = |stop: &Stop, at: f64, stream: usize| {
            stop.streams.contains(&stream) && (stop.from..stop.until + 1.0).contains(&at)
        };
        self.waves += system.sent.len();
        for &(at, stream, _) in &missing {
            self.false_alarms += usize::from(!system.stops.iter().any(|stop| is_of(stop, at, stream)));
        }
        for stop in &system.stops {
            let mut of_stop = missing.iter().filter(|(at, stream, _)| is_of(stop, *at, *stream));
            self.stops += 1;
            self.findings += of_stop.clone().count();
            if let Some(&(_, _, silence)) = of_stop.next() {
                self.noticed += 1;
                self.silences.push(silence);
                self.periods.push(silence / stop.period);
            }
        }
    }
}

/// The number of a stream.
fn number(wave: &StandingWave) -> usize {
    wave.channel.as_str().rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// All findings in a system, and their times in seconds.
fn watch(system: &System) -> Result<Vec<(f64, Finding)>, Box<dyn std::error::Error>> {
    let mut detector = StandingWaves::new(StandingOptions::default())?;
    let channels = (0..system.sources.len()).map(|stream| Channel::new(format!("stream.{stream}")));
    let channels: Vec<Channel> = channels.collect::<Result<_, _>>()?;
    let (start, mut findings) = (Instant::now(), Vec::new());
    let mut until = |detector: &mut StandingWaves, now: Instant| {
        while let Some(due) = detector.next_change().filter(|due| *due <= now) {
            findings.extend(detector.tick(due).map(|finding| ((due - start).as_secs_f64(), finding)));
        }
    };
    for &(at, stream, cause) in &system.sent {
        // Jitter may put a beat before the beginning.
        let now = start + Duration::from_secs_f64(at.max(0.0));
        until(&mut detector, now);
        let (channel, source) = (&channels[stream], &system.sources[stream]);
        match cause {
            Some(cause) => detector.caused_beat(channel, source, &system.sources[cause], Duration::ZERO, now),
            None => detector.beat(channel, source, Duration::ZERO, now),
        }
        until(&mut detector, now);
    }
    until(&mut detector, start + Duration::from_secs_f64(system.until));
    Ok(findings)
}

/// Alarms and stops in systems of several streams.
pub(super) fn systems(seeds: Range<u64>, goals: &mut Goals) -> Outcome {
    say!(
        "\n| system, with each seed | waves | false alarms | noticed/stops | silence p50, s | max, s |\n|---|---|---|---|---|---|"
    );
    let runs = seeds.clone().count();
    for (name, length, is_timely, make) in SYSTEMS {
        let mut score = Score::default();
        for seed in seeds.clone() {
            let system = make(&mut Rng::with_seed(seed))?;
            score.count(&system, &watch(&system)?);
        }
        let Score { waves, false_alarms, stops, noticed, findings, .. } = score;
        let a_run = false_alarms as f64 / runs as f64;
        let a_stop = findings as f64 / stops.max(1) as f64;
        let (p50, max) = (quantile(&mut score.silences, 0.5), quantile(&mut score.silences, 1.0));
        let periods = quantile(&mut score.periods, 1.0);
        if stops > 0 {
            say!("| {name}, {length} | {waves} | {false_alarms} | {noticed}/{stops} | {p50:.2} | {max:.2} |");
        } else {
            say!("| {name}, {length} | {waves} | {false_alarms} | | | |");
        }
        let (wanted, most) = if name.starts_with("100") {
            ("<= 2 a run", 2.0)
        } else if name.starts_with("pauses") {
            ("<= 5 a run", 5.0)
        } else {
            ("0", 0.0)
        };
        goals.push((format!("false alarms, {name}"), format!("{a_run:.1}"), wanted, a_run <= most));
        if stops > 0 {
            let all = noticed == stops && a_stop <= 1.0;
            let measured = format!("{noticed} of {stops}, {a_stop:.2} findings each");
            goals.push((format!("stops noticed, {name}"), measured, "all, one finding each", all));
        }
        if is_timely {
            let measured = format!("{periods:.2} periods");
            goals.push((format!("silence, {name}"), measured, "<= 3.5 periods", periods <= 3.5));
        }
    }
    Ok(())
}

/// The number of beats until a changed period is learnt.
pub(super) fn changes(seeds: Range<u64>, goals: &mut Goals) -> Outcome {
    say!(
        "\n| change of the period | streams | learnt within 100 beats | beats p50 | max |\n|---|---|---|---|---|"
    );
    let (mut worst, mut all) = (0.0f64, true);
    for (factor, jitter) in [(2.0, 0.02), (0.5, 0.02), (1.3, 0.02), (2.0, 0.1), (0.5, 0.1)] {
        let (mut streams, mut beats) = (0, Vec::new());
        for seed in seeds.clone() {
            let mut random = Rng::with_seed(seed);
            for _ in 0..20 {
                streams += 1;
                beats.extend(beats_to_learn(factor, jitter, &mut random)?.map(f64::from));
            }
        }
        all &= beats.len() == streams;
        let (learnt, p50, max) = (beats.len(), quantile(&mut beats, 0.5), quantile(&mut beats, 1.0));
        worst = worst.max(max);
        say!(
            "| 1 s to {factor} s, {:.0} % jitter | {streams} | {learnt} | {p50:.0} | {max:.0} |",
            100.0 * jitter
        );
    }
    let measured = format!("{worst:.0} beats");
    goals.push(("a changed period is learnt".into(), measured, "<= 30 beats, all", worst <= 30.0 && all));
    Ok(())
}

fn beats_to_learn(
    factor: f64,
    jitter: f64,
    random: &mut Rng,
) -> Result<Option<u32>, Box<dyn std::error::Error>> {
    let mut detector = StandingWaves::new(StandingOptions::default())?;
    let (channel, source) = (Channel::new("stream.0")?, Source::with_instance("stock", 1)?);
    let (start, mut clock) = (Instant::now() + Duration::from_secs(10), 0.0);
    for beat in 0..300u32 {
        let period = if beat < 200 { 1.0 } else { factor };
        clock += period;
        let now = start + Duration::from_secs_f64(clock + period * jitter * normal(random));
        detector.beat(&channel, &source, Duration::ZERO, now);
        while detector.next_change().is_some_and(|due| due <= now) {
            std::hint::black_box(detector.tick(now));
        }
        let learnt = detector.stream(&channel, &source).map(|wave| wave.period.as_secs_f64() / factor);
        if beat >= 200 && learnt.is_some_and(|learnt| (learnt - 1.0).abs() < 0.03) {
            return Ok(Some(beat - 199));
        }
    }
    Ok(None)
}
