//! Systems of several streams with a known truth: what stops when, and what is only lost, late or in bursts.

use aether_core::Source;
use fastrand::Rng;

use super::super::random::{exponential, normal, uniform};

/// A wave: its time in seconds, its stream, and the stream of its cause.
pub(super) type Sent = (f64, usize, Option<usize>);

/// Streams that stop together.
pub(super) struct Stop {
    /// The time of the stop, and of the end if the streams resume.
    pub(super) from: f64,
    pub(super) until: f64,
    /// The streams that stop.
    pub(super) streams: Vec<usize>,
    /// The shortest period among them.
    pub(super) period: f64,
}

/// A system to watch.
pub(super) struct System {
    pub(super) sent: Vec<Sent>,
    /// The source of each stream.
    pub(super) sources: Vec<Source>,
    pub(super) stops: Vec<Stop>,
    pub(super) until: f64,
}

type Made = Result<System, Box<dyn std::error::Error>>;
type Make = fn(&mut Rng) -> Made;

/// All systems: the name, the duration, whether a silence of at most 3.5 periods is demanded, and the generator.
pub(super) const SYSTEMS: [(&str, &str, bool, Make); 14] = [
    ("100 heartbeats, 1 % lost", "1 h", true, |random| heartbeats(random, 0.01)),
    ("100 heartbeats, nothing lost", "1 h", true, |random| heartbeats(random, 0.0)),
    ("pauses of 0.5 to 3 s in 5 % of the beats, made up for", "10 h", false, |random| pauses(random, true)),
    ("pauses of 0.5 to 3 s in 5 % of the beats, not made up for", "10 h", false, |random| {
        pauses(random, false)
    }),
    ("10 streams, bursts of 10 every 5 s", "1 h", true, |random| bursts(random, 5.0, 10, 0.01)),
    ("10 streams, batches of 40 every 500 ms", "10 min", true, |random| bursts(random, 0.5, 40, 0.002)),
    ("limiters of 50/s, loaded by 90 to 99 %", "10 min", false, |random| {
        limiters(random, [0.9, 0.95, 0.97, 0.99])
    }),
    ("limiters of 50/s, loaded by 30 to 80 %", "10 min", false, |random| {
        // Their waves come by chance, and their end is like a want of work.
        let mut system = limiters(random, [0.3, 0.5, 0.7, 0.8])?;
        system.sent.retain(|sent| sent.0 < 600.0);
        Ok(System { stops: Vec::new(), until: 600.0, ..system })
    }),
    ("chains of four, with causes", "10 min", false, |random| chains(random, true, 0)),
    ("the same, the third stops", "10 min", false, |random| chains(random, true, 2)),
    ("chains of four, by timing alone", "10 min", false, |random| chains(random, false, 0)),
    ("the same, the third stops", "10 min", false, |random| chains(random, false, 2)),
    ("a host of 20 streams stalls for 10 s, 20 others go on", "10 min", false, host),
    ("20 loads of 8 s at 50/s", "20 min", false, loads),
];

fn sources(names: impl IntoIterator<Item = usize>) -> Result<Vec<Source>, Box<dyn std::error::Error>> {
    let source = |name: usize| Source::with_instance(&format!("s{name}"), 1 + name as u64);
    Ok(names.into_iter().map(source).collect::<Result<_, _>>()?)
}

/// Beats of a timer with 2 % jitter.
fn timer(period: f64, from: f64, until: f64, random: &mut Rng) -> Vec<f64> {
    let beats = ((until - from) / period).ceil() as u32;
    (0..beats).map(|beat| from + period * (f64::from(beat) + 0.02 * normal(random))).collect()
}

/// The stop of one stream after the other.
fn one_by_one(streams: usize, from: f64, apart: f64, period: f64) -> Vec<Stop> {
    let stop = |stream| Stop {
        from: from + apart * stream as f64,
        until: f64::INFINITY,
        streams: vec![stream],
        period,
    };
    (0..streams).map(stop).collect()
}

fn system(mut sent: Vec<Sent>, sources: Vec<Source>, mut stops: Vec<Stop>, until: f64) -> System {
    sent.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // A stream that loses its last beats has stopped before.
    for stop in stops.iter_mut().filter(|stop| stop.until.is_infinite()) {
        let last = sent.iter().rfind(|sent| stop.streams.contains(&sent.1));
        stop.from = last.map_or(stop.from, |last| last.0.min(stop.from));
    }
    System { sent, sources, stops, until }
}

fn heartbeats(random: &mut Rng, lost: f64) -> Made {
    let stops = one_by_one(100, 3600.0, 5.0, 1.0);
    let mut sent = Vec::new();
    for (stream, stop) in stops.iter().enumerate() {
        let beats = timer(1.0, random.f64(), stop.from, random);
        sent.extend(beats.into_iter().filter(|_| random.f64() >= lost).map(|at| (at, stream, None)));
    }
    Ok(system(sent, sources(0..100)?, stops, 4200.0))
}

fn pauses(random: &mut Rng, made_up_for: bool) -> Made {
    const HOURS: f64 = 36_000.0;
    let (mut sent, mut paused, mut due) = (Vec::new(), 0.0f64, 1.0);
    while due < HOURS {
        if random.f64() < 0.05 {
            paused = due + uniform(random, 0.5, 3.0);
        }
        let at = f64::max(due, paused) + 0.001 * random.f64();
        sent.push((at, 0, None));
        due = 1.0 + if made_up_for { due } else { at };
    }
    Ok(system(sent, sources(0..1)?, one_by_one(1, HOURS, 0.0, 1.0), HOURS + 100.0))
}

fn bursts(random: &mut Rng, period: f64, size: usize, apart: f64) -> Made {
    let stops = one_by_one(10, if period > 1.0 { 3600.0 } else { 600.0 }, 12.0 * period, period);
    let mut sent = Vec::new();
    for (stream, stop) in stops.iter().enumerate() {
        for begin in timer(period, period * random.f64(), stop.from, random) {
            let mut at = begin;
            for _ in 0..size {
                sent.push((at, stream, None));
                at += uniform(random, 0.5, 1.5) * apart;
            }
        }
    }
    let until = stops.last().map_or(0.0, |stop| stop.from) + 20.0 * period;
    Ok(system(sent, sources(0..10)?, stops, until))
}

fn limiters(random: &mut Rng, loads: [f64; 4]) -> Made {
    let stops = one_by_one(4, 600.0, 60.0, 0.02);
    let mut sent = Vec::new();
    for (stream, load) in loads.into_iter().enumerate() {
        let (mut arrival, mut free) = (0.0, 0.0f64);
        loop {
            arrival += exponential(random, 0.02 / load);
            let at = f64::max(arrival, free);
            if at >= stops[stream].from {
                break;
            }
            sent.push((at, stream, None));
            free = at + 0.02;
        }
    }
    Ok(system(sent, sources(0..4)?, stops, 860.0))
}

/// Five chains of four services each, which stop from one service on.
fn chains(random: &mut Rng, with_causes: bool, from: usize) -> Made {
    let (mut sent, mut stops) = (Vec::new(), Vec::new());
    for chain in 0..5 {
        let (first, at) = (4 * chain, 600.0 + 20.0 * chain as f64);
        let period = 0.1 * (1 + chain) as f64;
        for begin in timer(period, random.f64(), 720.0, random) {
            let mut time = begin;
            for stream in (0..4).filter(|stream| *stream < from || begin < at) {
                let cause = (with_causes && stream > 0).then(|| first + stream - 1);
                sent.push((time, first + stream, cause));
                time += 0.001 + exponential(random, 0.0002);
            }
        }
        stops.push(Stop {
            from: at,
            until: f64::INFINITY,
            streams: (first + from..first + 4).collect(),
            period,
        });
    }
    Ok(system(sent, sources(0..20)?, stops, 719.0))
}

fn host(random: &mut Rng) -> Made {
    let mut sent = Vec::new();
    for stream in 0..20 {
        let period = [0.2, 0.5, 1.0, 5.0][stream % 4];
        let beats = timer(period, period * random.f64(), 600.0, random);
        let stalled = |at: &f64| (300.0..310.0).contains(at) || *at >= 600.0;
        sent.extend(beats.into_iter().filter(|at| !stalled(at)).map(|at| (at, stream, None)));
        sent.extend(timer(1.0, random.f64(), 720.0, random).into_iter().map(|at| (at, 20 + stream, None)));
    }
    let stop = |from, until| Stop { from, until, streams: (0..20).collect(), period: 0.2 };
    // Five sources of four streams each, and twenty of one stream.
    let names = (0..40).map(|stream| if stream < 20 { stream / 4 } else { stream });
    Ok(system(sent, sources(names)?, vec![stop(300.0, 310.0), stop(600.0, f64::INFINITY)], 720.0))
}

fn loads(random: &mut Rng) -> Made {
    let mut sent = Vec::new();
    for stream in 0..20 {
        let from = 60.0 * stream as f64;
        sent.extend(timer(0.02, from, from + 8.0, random).into_iter().map(|at| (at, stream, None)));
    }
    Ok(system(sent, sources(0..20)?, Vec::new(), 1200.0))
}
