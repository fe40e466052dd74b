//! Alerts from ten probes over a day: real faults, which most probes see, and blips, which only one probe sees. Then
//! probes that always cry, partitions, and an observer that loses waves.

#[path = "interference/crying.rs"]
mod crying;

use std::ops::Range;
use std::time::{Duration, Instant};

use aether::physics::{Claim, FringeKind, Interfere, Interference};
use aether_core::{Amplitude, Channel, Phase, Source, WaveId};
use fastrand::Rng;

use super::page::say;
use super::random::{exponential, uniform};
use super::{Outcome, goal, quantile};

const DAY: f64 = 86_400.0;
const PROBES: u64 = 10;
const KEYS: usize = 500;
const FAULTS: usize = 60;
const BLIPS: usize = 6000;
/// A page that opens this long after the end of a fault still belongs to it.
const GRACE: f64 = 30.0;

/// A real fault.
struct Fault {
    key: usize,
    from: f64,
    to: f64,
}

/// A report by one probe about one key.
struct Alert {
    at: f64,
    key: usize,
    probe: usize,
    phase: Phase,
}

struct Storm {
    faults: Vec<Fault>,
    alerts: Vec<Alert>,
}

impl Storm {
    fn of_a_day(random: &mut Rng) -> Self {
        let (mut faults, mut alerts) = (Vec::new(), Vec::new());
        for _ in 0..FAULTS {
            let from = uniform(random, 0.0, DAY);
            let fault = Fault { key: random.usize(..KEYS), from, to: from + uniform(random, 60.0, 600.0) };
            for probe in 0..PROBES as usize {
                if random.f64() < 0.9 {
                    let mut at = fault.from + exponential(random, 4.0);
                    while at < fault.to {
                        alerts.push(Alert { at, key: fault.key, probe, phase: Phase::ASSERT });
                        at += uniform(random, 8.0, 12.0);
                    }
                    let at = fault.to + exponential(random, 3.0);
                    alerts.push(Alert { at, key: fault.key, probe, phase: Phase::RETRACT });
                }
            }
            faults.push(fault);
        }
        for _ in 0..BLIPS {
            let (at, key, probe) =
                (uniform(random, 0.0, DAY), random.usize(..KEYS), random.usize(..PROBES as usize));
            alerts.push(Alert { at, key, probe, phase: Phase::ASSERT });
            if random.f64() < 0.8 {
                alerts.push(Alert { at: at + uniform(random, 0.2, 8.0), key, probe, phase: Phase::RETRACT });
            }
        }
        alerts.sort_unstable_by(|a, b| a.at.total_cmp(&b.at));
        Self { faults, alerts }
    }
}

/// The results of a day.
#[derive(Default)]
struct Day {
    waves: usize,
    pages: usize,
    found: usize,
    false_pages: usize,
    delays: Vec<f64>,
}

/// A page that is open from one moment to another.
struct Page {
    id: WaveId,
    /// Its keys, and when each was named.
    keys: Vec<(usize, f64)>,
    from: f64,
    to: f64,
}

impl Page {
    /// When it named a fault, if it was open during it.
    fn names(&self, fault: &Fault) -> Option<f64> {
        let (_, named) = self.keys.iter().find(|(key, _)| *key == fault.key)?;
        (*named <= fault.to && self.to >= fault.from).then_some(*named)
    }
}

/// The pager that receives the alerts of the storm.
struct Pager {
    detector: Interference,
    channel: Channel,
    probes: Vec<Source>,
    keys: Vec<String>,
    start: Instant,
    pages: Vec<Page>,
    amplitude: Amplitude,
}

impl Pager {
    fn new(options: Interfere, probes: u64) -> Result<Self, Box<dyn std::error::Error>> {
        let probes =
            (1..=probes).map(|probe| Source::with_instance("probe", probe)).collect::<Result<_, _>>()?;
        Ok(Self {
            detector: options.build()?,
            channel: Channel::new("probes.alert")?,
            probes,
            keys: (0..KEYS).map(|key| key.to_string()).collect(),
            start: Instant::now(),
            pages: Vec::new(),
            amplitude: Amplitude::new(0.7)?,
        })
    }

    /// Does what a driver does: ticks whenever something can change, and after each wave.
    fn hear(&mut self, alert: &Alert, now: Instant, sequence: u64) {
        while let Some(due) = self.detector.next_change().filter(|due| *due <= now) {
            self.tick(due);
        }
        let claim = Claim { amplitude: self.amplitude, phase: alert.phase, sequence, age: Duration::ZERO };
        self.detector.claim(&self.channel, &self.keys[alert.key], &self.probes[alert.probe], claim, now);
        self.tick(now);
    }

    /// Reports that claims were lost. An observer reports a loss before it ticks.
    fn lost(&mut self, from: Instant, now: Instant) {
        self.detector.not_seen(from, now);
    }

    fn tick(&mut self, now: Instant) {
        while let Some(fringe) = self.detector.tick(now) {
            let at = (now - self.start).as_secs_f64();
            let number = |key: &str| key.parse().unwrap_or(usize::MAX);
            match fringe.kind {
                FringeKind::Rise => {
                    let keys = vec![(number(&fringe.key), at)];
                    self.pages.push(Page { id: fringe.id.clone(), keys, from: at, to: f64::INFINITY });
                }
                kind => {
                    let Some(page) = self.pages.iter_mut().rev().find(|page| page.id == fringe.id) else {
                        continue;
                    };
                    for key in fringe.keys.iter().map(|key| number(key)) {
                        if !page.keys.iter().any(|(known, _)| *known == key) {
                            page.keys.push((key, at));
                        }
                    }
                    if kind != FringeKind::Changed {
                        page.to = at;
                    }
                }
            }
        }
    }
}

fn day(seed: u64, options: Interfere) -> Result<Day, Box<dyn std::error::Error>> {
    let storm = Storm::of_a_day(&mut Rng::with_seed(seed));
    let mut pager = Pager::new(options, PROBES)?;
    for (sequence, alert) in storm.alerts.iter().enumerate() {
        pager.hear(alert, pager.start + Duration::from_secs_f64(alert.at), sequence as u64 + 1);
    }
    let mut day = Day { waves: storm.alerts.len(), pages: pager.pages.len(), ..Day::default() };
    for fault in &storm.faults {
        // A page that was already open when another fault of the same key began counts for both.
        if let Some(named) = pager.pages.iter().find_map(|page| page.names(fault)) {
            day.found += 1;
            day.delays.push((named - fault.from).max(0.0));
        }
    }
    // A fault that begins together with another one is a key of the same page, which names it.
    let is_true = |page: &&Page| {
        let mut faults = storm.faults.iter().filter(|fault| fault.key == page.keys[0].0);
        faults.any(|fault| page.from >= fault.from && page.from <= fault.to + GRACE)
    };
    day.false_pages = day.pages - pager.pages.iter().filter(is_true).count();
    Ok(day)
}

pub(super) fn run(seeds: Range<u64>) -> Outcome {
    say!(
        "| options | waves | pages | fewer, % | faults found | false pages | delay p50, s | p99, s |\n|---|---|---|---|---|---|---|---|"
    );
    let mut of_goal = Day::default();
    let default = || Interfere::by_key();
    let goals = || Interfere::by_key().sources(3).rise(0.95).fall(0.5);
    let cases: [(&str, &dyn Fn() -> Interfere); 5] = [
        ("3 sources, rise 0.95", &goals),
        ("the same, settled for 5 s", &|| goals().settle(Duration::from_secs(5))),
        ("by default: 3 sources, rise 0.8", &default),
        ("2 sources, rise 0.9", &|| default().sources(2).rise(0.9)),
        ("1 source, rise 0.6", &|| default().sources(1).rise(0.6)),
    ];
    for (index, (name, options)) in cases.into_iter().enumerate() {
        let mut sum = Day::default();
        for seed in seeds.clone() {
            let day = day(seed, options())?;
            sum.waves += day.waves;
            sum.pages += day.pages;
            sum.found += day.found;
            sum.false_pages += day.false_pages;
            sum.delays.extend(day.delays);
        }
        let days = seeds.clone().count();
        say!(
            "| {name} | {} | {} | {:.2} | {}/{} | {} | {:.1} | {:.1} |",
            sum.waves,
            sum.pages,
            100.0 * fewer(&sum),
            sum.found,
            days * FAULTS,
            sum.false_pages,
            quantile(&mut sum.delays, 0.5),
            quantile(&mut sum.delays, 0.99),
        );
        if index == 0 {
            of_goal = sum;
        }
    }
    let crying = crying::run(seeds.clone())?;
    let costs = costs(seeds.start)?;
    say!("\n| cost of a wave | ns |\n|---|---|");
    for (name, nanos) in &costs {
        say!("| {name} | {nanos:.0} |");
    }
    say!("\n| goal | measured | wanted | reached |\n|---|---|---|---|");
    let (fewer, faults) = (fewer(&of_goal), seeds.count() * FAULTS);
    goal("fewer pages than waves", format!("{:.2} %", 100.0 * fewer), ">= 99 %", fewer >= 0.99);
    goal("faults found", format!("{} of {faults}", of_goal.found), "all", of_goal.found == faults);
    let wrong = of_goal.false_pages as f64 / of_goal.pages.max(1) as f64;
    goal("false pages", format!("{:.1} %", 100.0 * wrong), "<= 5 %", wrong <= 0.05);
    for (what, measured, wanted, reached) in crying {
        goal(what, measured, wanted, reached);
    }
    for (name, nanos) in costs {
        goal(name, format!("{nanos:.0} ns"), "< 150 ns a wave", nanos < 150.0);
    }
    Ok(())
}

fn fewer(day: &Day) -> f64 {
    1.0 - day.pages as f64 / day.waves as f64
}

const ROUNDS: usize = 7;

/// The nanoseconds per wave, observed and ticked: for the storm, and for a flood in which each wave brings a new key.
fn costs(seed: u64) -> Result<[(&'static str, f64); 2], Box<dyn std::error::Error>> {
    let storm = Storm::of_a_day(&mut Rng::with_seed(seed));
    let flood: Vec<String> = (0..100_000).map(|key| format!("made-up-key-{key}")).collect();
    let (mut of_storm, mut of_flood) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut pager = Pager::new(Interfere::by_key().sources(3).rise(0.95), PROBES)?;
        let moments: Vec<Instant> =
            storm.alerts.iter().map(|alert| pager.start + Duration::from_secs_f64(alert.at)).collect();
        let begin = Instant::now();
        for (sequence, (alert, now)) in storm.alerts.iter().zip(moments).enumerate() {
            pager.hear(alert, now, sequence as u64 + 1);
        }
        of_storm.push(begin.elapsed().as_nanos() as f64 / storm.alerts.len() as f64);

        let mut pager = Pager::new(Interfere::by_key(), PROBES)?;
        let claim =
            Claim { amplitude: Amplitude::NORMAL, phase: Phase::ASSERT, sequence: 1, age: Duration::ZERO };
        let begin = Instant::now();
        for key in &flood {
            pager.detector.claim(&pager.channel, key, &pager.probes[0], claim, pager.start);
            pager.detector.tick(pager.start);
        }
        of_flood.push(begin.elapsed().as_nanos() as f64 / flood.len() as f64);
        assert_eq!(pager.detector.keys(), 4096);
    }
    let (of_storm, of_flood) = (quantile(&mut of_storm, 0.5), quantile(&mut of_flood, 0.5));
    Ok([("a day of alerts", of_storm), ("a flood of keys, each new", of_flood)])
}
