//! Faults that a random choice rarely makes: long partitions, crash loops, slow members, clocks that are off.

use std::time::Duration;

use aether_testing::sim::{Link, RandomFaults, Sim};

use crate::traffic::SECOND;

/// The faults that a scenario has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    Some,
}

/// Random numbers for a scenario, from its seed. Each purpose has a number of its own.
pub(crate) fn random(sim: &Sim, purpose: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(sim.seed().wrapping_mul(1000).wrapping_add(purpose))
}

/// Clocks that are off by up to two minutes, and drift by up to 200 ppm.
pub(crate) fn skew_clocks(sim: &mut Sim, names: &[&str]) {
    let mut random = random(sim, 1);
    for name in names {
        sim.set_forward(name, random.i64(-120..=120));
        sim.drift(name, random.i64(-200..=200));
    }
}

/// Faults of all kinds, which all end `within` a time, when all processes of `names` run and reach each other. Those in
/// `spared` are not killed.
pub(crate) fn cause(sim: &mut Sim, names: &'static [&'static str], spared: &[&str], within: Duration) {
    let mut random = random(sim, 2);
    let (now, end) = (sim.now(), sim.now() + within);
    let killed: Vec<&'static str> = names.iter().filter(|name| !spared.contains(name)).copied().collect();
    let count = random.usize(0..8);
    sim.random_faults(within, &RandomFaults::new(random.usize(2..12)).kills(0));
    sim.random_faults(
        within,
        &RandomFaults::new(count)
            .among(killed.iter().copied())
            .freezes(0)
            .cuts(0)
            .one_way_cuts(0)
            .slow_links(0),
    );
    if random.bool() {
        // A partition for most of the time.
        let (mut some, mut others) = (Vec::new(), Vec::new());
        names.iter().for_each(|name| if random.bool() { some.push(*name) } else { others.push(*name) });
        let begin = now + within.mul_f64(0.3 * random.f64());
        let (left, right) = (some.clone(), others.clone());
        sim.at(begin, move |sim| sim.cut(&left, &right));
        sim.at(end, move |sim| sim.join(&some, &others));
    }
    if random.bool() && !killed.is_empty() {
        // A process that crashes as soon as it has started.
        let name = killed[random.usize(..killed.len())];
        let mut at = now + within.mul_f64(0.5 * random.f64());
        for _ in 0..random.u32(2..8) {
            sim.at(at, move |sim| sim.kill(name));
            let down = Duration::from_millis(random.u64(20..1000));
            sim.at((at + down).min(end), move |sim| sim.restart(name));
            at += down + Duration::from_millis(random.u64(100..3000));
            if at >= end {
                break;
            }
        }
    }
    if random.bool() {
        // A member far away, for good.
        let far = names[random.usize(..names.len())];
        let link = Link {
            latency: Duration::from_millis(random.u64(20..120)),
            jitter: SECOND / 100,
            ..Link::default()
        };
        sim.link(&[far], names, link);
    }
    sim.at(end, move |sim| names.iter().for_each(|name| sim.restart(name)));
}

/// Lets time pass, in which `wrong` must find nothing.
#[track_caller]
pub(crate) fn stays(sim: &mut Sim, time: Duration, wrong: impl Fn(&mut Sim) -> Option<String>) {
    let end = sim.now() + time;
    while sim.now() < end {
        let wrong = wrong(sim);
        assert!(wrong.is_none(), "after {:?}: {}", sim.now(), wrong.unwrap_or_default());
        sim.run_for(SECOND / 5);
    }
}
