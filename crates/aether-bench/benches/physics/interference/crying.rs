//! Probes that always cry, partitions, and an observer that loses waves.

use std::ops::Range;
use std::time::Duration;

use aether::physics::Interfere;
use aether_core::Phase;
use fastrand::Rng;

use super::{Alert, Fault, GRACE, Pager};
use crate::page::say;
use crate::random::{exponential, uniform};

const HOUR: f64 = 3600.0;
const CRYING: usize = 3;
const HONEST: usize = 17;
const WATCHED: usize = 100;
const FAULTS: usize = 100;
/// Faults of this length begin at this interval, so that there is one at a time.
const LENGTH: f64 = 120.0;
const INTERVAL: f64 = 180.0;
/// Keys that a partition hides, and the probes that lose sight of them.
const HIDDEN: usize = 50;
const PARTITIONS: usize = 6;

/// The faults found.
#[derive(Default)]
struct Score {
    pages: usize,
    wrong: usize,
    found: usize,
    all: usize,
}

type Failed = Box<dyn std::error::Error>;
type Goals = Vec<(&'static str, String, &'static str, bool)>;

/// Prints the tables and returns the goals.
pub(super) fn run(seeds: Range<u64>) -> Result<Goals, Failed> {
    let mut goals = Goals::new();
    say!("\n| 3 of 20 probes always cry | pages | false pages | faults found |\n|---|---|---|---|");
    for (name, retracts, interval) in [
        ("each key every 10 s", false, 10.0),
        ("each key every 30 s on average", false, 30.0),
        ("each key every 60 s on average", false, 60.0),
        ("each key every 10 s; the honest probes retract", true, 10.0),
    ] {
        let mut sum = Score::default();
        for seed in seeds.clone() {
            let score = crying(&mut Rng::with_seed(seed), retracts, interval)?;
            sum.pages += score.pages;
            sum.wrong += score.wrong;
            sum.found += score.found;
            sum.all += score.all;
        }
        say!("| {name} | {} | {} | {}/{} |", sum.pages, sum.wrong, sum.found, sum.all);
        if !retracts && interval == 10.0 {
            let (found, wrong) =
                (sum.found as f64 / sum.all as f64, sum.wrong as f64 / sum.pages.max(1) as f64);
            goals.push((
                "faults found among cries",
                format!("{:.1} %", 100.0 * found),
                ">= 97 %",
                found >= 0.97,
            ));
            goals.push((
                "false pages among cries",
                format!("{:.1} %", 100.0 * wrong),
                "<= 3 %",
                wrong <= 0.03,
            ));
        }
    }
    say!("\n| an hour with 6 partitions of 50 keys | partitions | pages | keys named |\n|---|---|---|---|");
    let (mut pages, mut named, mut partitions) = (0, 0, 0);
    for seed in seeds.clone() {
        let (seen, keys) = partitioned(&mut Rng::with_seed(seed))?;
        pages += seen;
        named += keys;
        partitions += PARTITIONS;
    }
    say!("| 10 probes see each | {partitions} | {pages} | {named}/{} |", partitions * HIDDEN);
    goals.push((
        "pages of a partition",
        format!("{:.2}", pages as f64 / partitions as f64),
        "1",
        pages == partitions,
    ));
    say!(
        "\n| an observer loses the waves of 100 s in 200 s | faults | pages | open at the end of their fault |\n|---|---|---|---|"
    );
    for (name, tells) in [("and tells the detector", true), ("and does not", false)] {
        let (mut faults, mut pages, mut open) = (0, 0, 0);
        for seed in seeds.clone() {
            let (of_seed, seen, still) = with_losses(&mut Rng::with_seed(seed), tells)?;
            faults += of_seed;
            pages += seen;
            open += still;
        }
        say!("| {name} | {faults} | {pages} | {open} |");
        if tells {
            let reached = pages == faults && open == faults;
            goals.push((
                "pages of a fault with losses",
                format!("{:.2}", pages as f64 / faults as f64),
                "1, open to its end",
                reached,
            ));
        }
    }
    Ok(goals)
}

/// A fault as the honest probes see it: nine of ten repeat an alert every ten seconds.
fn seen(random: &mut Rng, fault: &Fault, probes: Range<usize>, retracts: bool, alerts: &mut Vec<Alert>) {
    for probe in probes {
        if random.f64() < 0.9 {
            let mut at = fault.from + exponential(random, 4.0);
            while at < fault.to {
                alerts.push(Alert { at, key: fault.key, probe, phase: Phase::ASSERT });
                at += uniform(random, 8.0, 12.0);
            }
            if retracts {
                let at = fault.to + exponential(random, 3.0);
                alerts.push(Alert { at, key: fault.key, probe, phase: Phase::RETRACT });
            }
        }
    }
}

/// Blips that single probes see.
fn blips(random: &mut Rng, blips: usize, probes: Range<usize>, until: f64, alerts: &mut Vec<Alert>) {
    for _ in 0..blips {
        let (at, key, probe) =
            (uniform(random, 0.0, until), random.usize(..WATCHED), random.usize(probes.clone()));
        alerts.push(Alert { at, key, probe, phase: Phase::ASSERT });
    }
}

fn play(mut alerts: Vec<Alert>, pager: &mut Pager) {
    alerts.sort_unstable_by(|a, b| a.at.total_cmp(&b.at));
    for (sequence, alert) in alerts.iter().enumerate() {
        pager.hear(alert, pager.start + Duration::from_secs_f64(alert.at), sequence as u64 + 1);
    }
}

fn crying(random: &mut Rng, retracts: bool, interval: f64) -> Result<Score, Failed> {
    let (mut faults, mut alerts) = (Vec::new(), Vec::new());
    for n in 0..FAULTS {
        let from = INTERVAL * (n as f64 + 1.0) + uniform(random, 0.0, 30.0);
        faults.push(Fault { key: random.usize(..WATCHED), from, to: from + LENGTH });
    }
    let end = INTERVAL * (FAULTS as f64 + 2.0);
    for fault in &faults {
        seen(random, fault, CRYING..CRYING + HONEST, retracts, &mut alerts);
    }
    blips(random, 200, CRYING..CRYING + HONEST, end, &mut alerts);
    for (probe, key) in (0..CRYING).flat_map(|probe| (0..WATCHED).map(move |key| (probe, key))) {
        let mut at = uniform(random, 0.0, interval);
        while at < end {
            alerts.push(Alert { at, key, probe, phase: Phase::ASSERT });
            at += if interval > 10.0 { exponential(random, interval) } else { uniform(random, 8.0, 12.0) };
        }
    }
    let mut pager = Pager::new(Interfere::by_key(), (CRYING + HONEST) as u64)?;
    play(alerts, &mut pager);
    let of_fault = |key: usize, at: f64| {
        faults.iter().any(|fault| fault.key == key && (fault.from..fault.to + GRACE).contains(&at))
    };
    // Found is what is named after it began: a key that was lit all the time names no fault.
    let found = |fault: &&Fault| {
        let mut named = pager.pages.iter().flat_map(|page| &page.keys);
        named.any(|(key, at)| *key == fault.key && (fault.from..fault.to + GRACE).contains(at))
    };
    Ok(Score {
        pages: pager.pages.len(),
        wrong: pager.pages.iter().filter(|page| !of_fault(page.keys[0].0, page.from)).count(),
        found: faults.iter().filter(found).count(),
        all: faults.len(),
    })
}

/// Pages, and keys of the partitions that were named.
fn partitioned(random: &mut Rng) -> Result<(usize, usize), Failed> {
    let (mut alerts, mut faults) = (Vec::new(), Vec::new());
    for n in 0..PARTITIONS {
        let from = 600.0 * n as f64 + uniform(random, 100.0, 200.0);
        let to = from + uniform(random, 60.0, 240.0);
        let mut keys: Vec<usize> = (0..2 * HIDDEN).collect();
        random.shuffle(&mut keys);
        for key in keys.into_iter().take(HIDDEN) {
            let fault = Fault { key, from, to };
            seen(random, &fault, 0..10, true, &mut alerts);
            faults.push(fault);
        }
    }
    blips(random, 100, 0..10, HOUR, &mut alerts);
    let mut pager = Pager::new(Interfere::by_key(), 10)?;
    play(alerts, &mut pager);
    let named =
        faults.iter().filter(|fault| pager.pages.iter().any(|page| page.names(fault).is_some())).count();
    Ok((pager.pages.len(), named))
}

/// Faults of ten minutes, while the waves of every other 100 s are lost. Returns the faults, the pages, and the pages
/// that were open all the time until their fault ended.
fn with_losses(random: &mut Rng, tells: bool) -> Result<(usize, usize, usize), Failed> {
    let mut pager = Pager::new(Interfere::by_key(), 10)?;
    let (mut faults, mut alerts) = (Vec::new(), Vec::new());
    for n in 0..10 {
        // Seen before the first loss, and in view again when it ends.
        let from = 1000.0 * f64::from(n) + 10.0;
        let fault = Fault { key: n as usize, from, to: from + 620.0 };
        seen(random, &fault, 0..10, true, &mut alerts);
        faults.push(fault);
    }
    alerts.sort_unstable_by(|a, b| a.at.total_cmp(&b.at));
    let mut lost_until = 0.0;
    for (sequence, alert) in alerts.iter().enumerate() {
        let second = alert.at % 200.0;
        if second >= 100.0 {
            continue;
        }
        let begin = alert.at - second;
        if begin > lost_until {
            lost_until = begin;
            if tells {
                let moment = |at: f64| pager.start + Duration::from_secs_f64(at);
                let (from, now) = (moment(begin - 100.0), moment(begin));
                pager.lost(from, now);
            }
        }
        pager.hear(alert, pager.start + Duration::from_secs_f64(alert.at), sequence as u64 + 1);
    }
    let open =
        |fault: &&Fault| pager.pages.iter().any(|page| page.names(fault).is_some() && page.to >= fault.to);
    Ok((faults.len(), pager.pages.len(), faults.iter().filter(open).count()))
}
