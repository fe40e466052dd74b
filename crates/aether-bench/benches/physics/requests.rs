//! Requests that repeat: polling and retry storms, and healthy traffic that looks like them.

#[path = "requests/traffic.rs"]
mod traffic;

use std::ops::Range;
use std::time::{Duration, Instant};

use aether::physics::{Answer, Finding, PollingOptions, Pollings, Request, RetryOptions, RetryStorms};
use aether_core::{Channel, Kind, Source, WaveId};
use fastrand::Rng;

use super::page::say;
use super::{Outcome, goal, quantile};
use traffic::{Ask, POLLING, STORMS};

/// Both detectors, and the askers.
struct Stage {
    storms: RetryStorms,
    pollings: Pollings,
    channel: Channel,
    sources: Vec<Source>,
    start: Instant,
}

/// The findings of a run, with their times in seconds.
struct Found {
    storms: Vec<f64>,
    pollers: usize,
}

impl Stage {
    fn new(sources: u64) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self {
            storms: RetryStorms::new(RetryOptions::default())?,
            pollings: Pollings::new(PollingOptions::default())?,
            channel: Channel::new("stock.level")?,
            sources: (1..=sources).map(|n| Source::with_instance("shop", n)).collect::<Result<_, _>>()?,
            start: Instant::now(),
        })
    }

    /// Sends the requests in the order of time, with their answers, as an observer would hear them.
    fn run(&mut self, asks: &[Ask]) -> Found {
        let mut events: Vec<(f64, usize, bool)> = Vec::new();
        for (index, ask) in asks.iter().enumerate() {
            events.push((ask.at, index, false));
            events.extend(ask.answer.as_ref().map(|_| (ask.at + 0.004, index, true)));
        }
        events.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut found = Found { storms: Vec::new(), pollers: 0 };
        for (at, index, is_answer) in events {
            let (ask, sequence) = (&asks[index], index as u64 + 1);
            let (source, now) = (&self.sources[ask.source], self.start + Duration::from_secs_f64(at));
            if let (true, Some(content)) = (is_answer, &ask.answer) {
                let question = WaveId { source: source.clone(), sequence };
                let content = content.as_bytes();
                let answer =
                    Answer { channel: &self.channel, question: &question, content, failed: ask.fails };
                self.pollings.answered(&answer, now);
                self.storms.answered(&answer, now);
            } else {
                let request = Request {
                    channel: &self.channel,
                    source,
                    sequence,
                    kind: ask.kind,
                    key: Some(&ask.key),
                    content: ask.content.as_bytes(),
                    attempt: ask.attempt,
                    caused: false,
                    age: Duration::ZERO,
                };
                self.pollings.asked(&request, now);
                self.storms.asked(&request, now);
            }
            found.storms.extend(std::iter::from_fn(|| self.storms.tick()).map(|_| at));
            let polls = |finding: &Finding| matches!(finding, Finding::Polling { .. });
            found.pollers += std::iter::from_fn(|| self.pollings.tick()).filter(polls).count();
        }
        found
    }
}

pub(super) fn run(seeds: Range<u64>) -> Outcome {
    let runs = seeds.clone().count();
    let (mut found_all, mut wrong, mut wrong_pollers) = (true, 0, 0);
    say!(
        "| requests, more attempts of each | runs | reported/storms | false | delay p50, s | max, s |\n|---|---|---|---|---|---|"
    );
    for scenario in STORMS {
        let (mut reported, mut false_ones, mut delays) = (0, 0, Vec::new());
        for seed in seeds.clone() {
            let asks = (scenario.asks)(&mut Rng::with_seed(seed));
            let found = Stage::new(4)?.run(&asks);
            wrong_pollers += found.pollers;
            let begins = scenario.storm_at.unwrap_or(f64::INFINITY);
            let mut during = found.storms.iter().filter(|at| **at >= begins);
            if let Some(first) = during.next() {
                reported += 1;
                delays.push(first - begins);
            }
            false_ones += found.storms.iter().filter(|at| **at < begins).count() + during.count();
        }
        wrong += false_ones;
        let storms = if scenario.storm_at.is_some() { runs } else { 0 };
        found_all &= reported == storms;
        let (p50, max) = (quantile(&mut delays, 0.5), quantile(&mut delays, 1.0));
        let delays = if storms > 0 { format!("{p50:.0} | {max:.0}") } else { "|".to_owned() };
        say!("| {} | {runs} | {reported}/{storms} | {false_ones} | {delays} |", scenario.name);
    }
    say!("\n| questions, for an hour | runs | findings/pollers |\n|---|---|---|");
    let mut all_pollers = true;
    for scenario in POLLING {
        let (mut findings, mut least, mut most) = (0, usize::MAX, 0);
        for seed in seeds.clone() {
            let found = Stage::new(20)?.run(&(scenario.asks)(&mut Rng::with_seed(seed)));
            findings += found.pollers;
            least = least.min(found.pollers);
            most = most.max(found.pollers);
            wrong += found.storms.len();
        }
        all_pollers &= least == scenario.pollers && most == scenario.pollers;
        say!("| {} | {runs} | {findings}/{} |", scenario.name, runs * scenario.pollers);
    }
    let costs = costs()?;
    say!("\n| cost | retry storms | polling |\n|---|---|---|");
    for (name, [storms, pollings]) in &costs {
        say!("| {name} | {storms:.0} ns | {pollings:.0} ns |");
    }
    say!("\n| goal | measured | wanted | reached |\n|---|---|---|---|");
    let text = |all: bool| (if all { "all" } else { "not all" }).to_owned();
    goal("storms reported, once each", text(found_all), "all", found_all);
    goal(
        "storms and pollers that are none",
        (wrong + wrong_pollers).to_string(),
        "0",
        wrong + wrong_pollers == 0,
    );
    goal("pollers reported, once each", text(all_pollers), "all", all_pollers);
    Ok(())
}

type Costs = Vec<(&'static str, [f64; 2])>;

/// The nanoseconds of a request, and of a request with its answer.
fn costs() -> Result<Costs, Box<dyn std::error::Error>> {
    const REQUESTS: u64 = 200_000;
    let source = Source::with_instance("shop", 1)?;
    let channels =
        (0..16).map(|n| Channel::new(format!("stock.level.{n}"))).collect::<Result<Vec<_>, _>>()?;
    let contents: Vec<(String, String)> = (0..REQUESTS)
        .map(|n| (format!("order-{n}"), format!("{{\"order\":{n},\"sku\":\"lamp\",\"quantity\":2}}")))
        .collect();
    let mut costs = Costs::new();
    for (name, answered, questions) in [
        ("a request, each different", false, REQUESTS),
        ("a request and its answer, each different", true, REQUESTS),
        ("a request and its answer, 100 questions", true, 100),
    ] {
        let mut nanos = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            let mut stage = Stage::new(1)?;
            for (which, nanos) in nanos.iter_mut().enumerate() {
                let begin = Instant::now();
                for n in 0..REQUESTS {
                    let (key, content) = &contents[(n % questions) as usize];
                    let (channel, sequence) = (&channels[n as usize % channels.len()], n + 1);
                    let now = stage.start + Duration::from_micros(100 * n);
                    let request = Request {
                        channel,
                        source: &source,
                        sequence,
                        kind: Kind::Query,
                        key: Some(key),
                        content: content.as_bytes(),
                        attempt: 1,
                        caused: false,
                        age: Duration::ZERO,
                    };
                    let question = WaveId { source: source.clone(), sequence };
                    let answer = Answer {
                        channel,
                        question: &question,
                        content: b"{\"available\":23}",
                        failed: false,
                    };
                    if which == 0 {
                        stage.storms.asked(&request, now);
                        if answered {
                            stage.storms.answered(&answer, now);
                        }
                        std::hint::black_box(stage.storms.tick());
                    } else {
                        stage.pollings.asked(&request, now);
                        if answered {
                            stage.pollings.answered(&answer, now);
                        }
                        std::hint::black_box(stage.pollings.tick());
                    }
                }
                nanos.push(begin.elapsed().as_nanos() as f64 / REQUESTS as f64);
            }
        }
        let [mut storms, mut pollings] = nanos;
        costs.push((name, [quantile(&mut storms, 0.5), quantile(&mut pollings, 0.5)]));
    }
    Ok(costs)
}
