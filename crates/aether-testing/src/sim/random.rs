//! Random faults of a simulation: how many and which, drawn from the seed before they happen, so that some can be left out.

use std::fmt;
use std::time::Duration;

use super::network::Link;
use crate::wave_line::seconds;

/// The least and the most time that a fault lasts. Short and long ones are equally likely on a logarithmic scale.
const LASTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(30));
/// How far a clock jumps at most, in seconds.
const JUMPS: i64 = 3600;

/// Which faults are drawn, and how many. The weights decide how often each is drawn in relation to the others.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before Sim::random_faults"]
pub struct RandomFaults {
    count: usize,
    among: Option<Vec<String>>,
    weights: [u32; 8],
}

/// A fault with its time and its end.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) at: Duration,
    pub(super) until: Duration,
    pub(super) fault: SimFault,
}

#[derive(Debug, Clone)]
pub(super) enum SimFault {
    Kill(String),
    PowerCut(String),
    FullDisk(String),
    Freeze(String),
    Cut(Vec<String>, Vec<String>),
    CutOneWay(Vec<String>, Vec<String>),
    Slow(String, String, Link),
    Clock(String, i64),
}

impl RandomFaults {
    /// A number of faults of all kinds, equally often, except jumps of clocks and full disks.
    pub fn new(count: usize) -> Self {
        Self { count, among: None, weights: [1, 1, 1, 1, 1, 0, 1, 0] }
    }

    /// Faults hit these processes only. A cut separates one of them from others. Default: all processes.
    pub fn among<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.among = Some(names.into_iter().map(str::to_owned).collect());
        self
    }

    /// Processes are killed and start again.
    pub fn kills(self, weight: u32) -> Self {
        self.weigh(0, weight)
    }

    /// Processes freeze and go on.
    pub fn freezes(self, weight: u32) -> Self {
        self.weigh(1, weight)
    }

    /// A process is cut off from all others, from one, or from some.
    pub fn cuts(self, weight: u32) -> Self {
        self.weigh(2, weight)
    }

    /// The same in one direction.
    pub fn one_way_cuts(self, weight: u32) -> Self {
        self.weigh(3, weight)
    }

    /// The link of two processes gets slow, narrow and loses packets.
    pub fn slow_links(self, weight: u32) -> Self {
        self.weigh(4, weight)
    }

    /// Clocks jump by up to an hour and back.
    pub fn clock_jumps(self, weight: u32) -> Self {
        self.weigh(5, weight)
    }

    /// Processes that have a [disk](super::Sim::disk) lose their power and start again.
    pub fn power_cuts(self, weight: u32) -> Self {
        self.weigh(6, weight)
    }

    /// The disk of a process that has one is full, and has room again.
    pub fn full_disks(self, weight: u32) -> Self {
        self.weigh(7, weight)
    }

    fn weigh(mut self, kind: usize, weight: u32) -> Self {
        self.weights[kind] = weight;
        self
    }

    /// The faults of a seed in a time. None if there is no process that they may hit.
    pub(super) fn drawn(
        &self,
        seed: u64,
        (now, within): (Duration, Duration),
        names: Vec<String>,
        mut disks: Vec<String>,
    ) -> Vec<Planned> {
        let hit = self.among.clone().unwrap_or_else(|| names.clone());
        disks.retain(|name| hit.contains(name));
        let mut weights = self.weights;
        if disks.is_empty() {
            weights[6..].fill(0);
        }
        let total: u32 = weights.iter().sum();
        if hit.is_empty() || total == 0 {
            return Vec::new();
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut planned: Vec<Planned> = (0..self.count)
            .map(|_| {
                let at = now + within.mul_f64(random.f64() * 0.8);
                let (least, most) = (LASTS.0.as_secs_f64(), LASTS.1.as_secs_f64());
                let lasts = Duration::from_secs_f64(least * (most / least).powf(random.f64()));
                let until = (at + lasts).min(now + within);
                let fault = fault(&mut random, &weights, [&hit, &names, &disks]);
                Planned { at, until, fault }
            })
            .collect();
        planned.sort_by_key(|planned| planned.at);
        planned
    }
}

/// A fault of a process of the first list. The second list has links to it, the third disks.
fn fault(random: &mut fastrand::Rng, weights: &[u32], [hit, names, disks]: [&[String]; 3]) -> SimFault {
    let mut drawn = random.u32(..weights.iter().sum::<u32>());
    let one = hit[random.usize(..hit.len())].clone();
    let kind = weights.iter().position(|weight| {
        let is_it = drawn < *weight;
        drawn = drawn.saturating_sub(*weight);
        is_it
    });
    let others: Vec<String> = names.iter().filter(|name| **name != one).cloned().collect();
    match kind {
        Some(0) => SimFault::Kill(one),
        Some(1) => SimFault::Freeze(one),
        Some(kind @ (2 | 3)) => {
            let some: Vec<String> = match random.u8(..3) {
                // From everybody, from one other, or from some others.
                0 => others.clone(),
                1 if !others.is_empty() => vec![others[random.usize(..others.len())].clone()],
                _ => others.iter().filter(|_| random.bool()).cloned().collect(),
            };
            match (kind, random.bool()) {
                (2, _) => SimFault::Cut(vec![one], some),
                (_, true) => SimFault::CutOneWay(vec![one], some),
                (_, false) => SimFault::CutOneWay(some, vec![one]),
            }
        }
        Some(4) => {
            // A process that is alone has no link.
            let other = match others.len() {
                0 => one.clone(),
                count => others[random.usize(..count)].clone(),
            };
            let link = Link {
                latency: Duration::from_millis(random.u64(5..200)),
                jitter: Duration::from_millis(random.u64(0..200)),
                loss: random.f64() * 0.3,
                bandwidth: random.bool().then(|| random.u64(10_000..10_000_000)),
            };
            SimFault::Slow(one, other, link)
        }
        Some(6) => SimFault::PowerCut(disks[random.usize(..disks.len())].clone()),
        Some(7) => SimFault::FullDisk(disks[random.usize(..disks.len())].clone()),
        _ => SimFault::Clock(one, random.i64(-JUMPS..=JUMPS)),
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: ", seconds(self.at), seconds(self.until))?;
        match &self.fault {
            SimFault::Kill(name) => write!(f, "{name} is killed, then starts again"),
            SimFault::PowerCut(name) => write!(f, "{name} has no power, then starts again"),
            SimFault::FullDisk(name) => write!(f, "the disk of {name} is full"),
            SimFault::Freeze(name) => write!(f, "{name} is frozen"),
            SimFault::Cut(some, others) => write!(f, "{some:?} and {others:?} are cut"),
            SimFault::CutOneWay(from, to) => write!(f, "what {from:?} sends to {to:?} is cut"),
            SimFault::Slow(one, other, link) => write!(f, "{one} and {other} have {link}"),
            SimFault::Clock(name, by) => write!(f, "the clock of {name} is set forward by {by} s"),
        }
    }
}
