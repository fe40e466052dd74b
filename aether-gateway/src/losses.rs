//! What is lost, by reason and place: the first thing that the page shows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aether_core::Ledger;
use aether_metrics::OTHER;
use serde::Serialize;

use crate::history::rounded;
use crate::increments::{Increment, Queue, losses};
use crate::status::ProgramLine;
use crate::track::BUCKET_SECONDS;

/// The maximum number of places that are listed.
const MOST_PLACES: usize = 20;
/// The buckets of what is lost lately: processes tell their accounts every five seconds.
const LATELY: usize = 3;

/// The losses of all processes since they started.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Losses {
    pub(crate) waves: u64,
    /// The losses a second in the last 15 seconds, as the sum over all reasons and all places.
    pub(crate) per_second: f64,
    /// Without reasons for which nothing was lost.
    pub(crate) by_reason: BTreeMap<&'static str, u64>,
    /// The losses a second in the last 15 seconds.
    pub(crate) lately: BTreeMap<&'static str, f64>,
    /// The most severe first: by what is lost a second, then by all that was lost.
    pub(crate) places: Vec<Place>,
}

/// The losses of one program for one reason.
#[derive(Debug, Serialize)]
pub(crate) struct Place {
    program: String,
    /// `inbox` or `outbox`.
    queue: &'static str,
    reason: &'static str,
    waves: u64,
    /// The losses a second here and for this reason in the last 15 seconds.
    lost_per_second: f64,
}

/// The losses in the last 15 seconds at each place, in buckets.
#[derive(Debug, Default)]
pub(crate) struct Lately(VecDeque<BTreeMap<(Queue, &'static str), u64>>);

impl Lately {
    /// Ends a bucket with what was counted in it.
    pub(crate) fn end_bucket(&mut self, grown: &BTreeMap<Queue, Increment>) {
        if self.0.len() == LATELY {
            self.0.pop_front();
        }
        let of_queue = |(queue, increment): (&Queue, &Increment)| {
            let queue = queue.clone();
            let lost = increment.lost.clone().into_iter();
            lost.map(move |(reason, waves)| ((queue.clone(), reason), waves))
        };
        self.0.push_back(grown.iter().flat_map(of_queue).collect());
    }

    /// Waves a second.
    fn rates(&self) -> BTreeMap<(&Queue, &'static str), f64> {
        let seconds = (self.0.len().max(1) * BUCKET_SECONDS) as f64;
        let mut rates = BTreeMap::new();
        for ((queue, reason), waves) in self.0.iter().flatten() {
            *rates.entry((queue, *reason)).or_default() += *waves as f64 / seconds;
        }
        rates
    }
}

/// The queue that lost most for a reason.
pub(crate) fn worst_for(grown: &BTreeMap<Queue, Increment>, reason: &str) -> Option<String> {
    let lost = grown.iter().filter_map(|(queue, grown)| Some((queue, grown.lost.get(reason)?)));
    let (worst, _) = lost.max_by_key(|(_, waves)| **waves)?;
    Some(format!("{} {}", worst.program, worst.queue))
}

/// All that was lost, by reason.
pub(crate) fn by_reason(grown: &BTreeMap<Queue, Increment>) -> BTreeMap<&'static str, u64> {
    let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (reason, waves) in grown.values().flat_map(|grown| &grown.lost) {
        let sum = all.entry(reason).or_default();
        *sum = sum.saturating_add(*waves);
    }
    all
}

impl Losses {
    pub(crate) fn of(programs: &[ProgramLine], lately: &Lately) -> Self {
        let mut all = Self::default();
        let listed: BTreeSet<&str> = programs.iter().map(|program| program.program.as_str()).collect();
        let mut rates: BTreeMap<(&str, &str, &str), f64> = BTreeMap::new();
        for ((queue, reason), per_second) in lately.rates() {
            *all.lately.entry(reason).or_default() += per_second;
            all.per_second += per_second;
            // Programs beyond the bound share a line.
            let program = listed.get(queue.program.as_str()).copied().unwrap_or(OTHER);
            *rates.entry((program, queue.queue, reason)).or_default() += per_second;
        }
        for program in programs {
            all.add(program, "inbox", &program.inboxes.0, &rates);
            all.add(program, "outbox", &program.outbox.0, &rates);
        }
        all.places.sort_by(|a, b| {
            b.lost_per_second.total_cmp(&a.lost_per_second).then_with(|| b.waves.cmp(&a.waves))
        });
        all.places.truncate(MOST_PLACES);
        for per_second in all.lately.values_mut().chain([&mut all.per_second]) {
            *per_second = rounded(*per_second);
        }
        all
    }

    fn add(
        &mut self,
        program: &ProgramLine,
        queue: &'static str,
        ledger: &Ledger,
        rates: &BTreeMap<(&str, &str, &str), f64>,
    ) {
        for (reason, waves) in losses(ledger).into_iter().filter(|(_, waves)| *waves > 0) {
            // Counts from the network could wrap.
            self.waves = self.waves.saturating_add(waves);
            let sum = self.by_reason.entry(reason).or_default();
            *sum = sum.saturating_add(waves);
            let rate = rates.get(&(program.program.as_str(), queue, reason)).copied().unwrap_or_default();
            let program = program.program.clone();
            self.places.push(Place { program, queue, reason, waves, lost_per_second: rounded(rate) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(all: &[(&str, &'static str, &'static str, u64)]) -> BTreeMap<Queue, Increment> {
        let mut grown: BTreeMap<Queue, Increment> = BTreeMap::new();
        for (program, queue, reason, waves) in all {
            let queue = Queue { program: (*program).to_owned(), queue };
            grown.entry(queue).or_default().lost.insert(reason, *waves);
        }
        grown
    }

    #[test]
    fn rates_are_those_of_the_last_buckets_at_each_place_and_for_each_reason() {
        let mut lately = Lately::default();
        lately.end_bucket(&grown(&[("till", "inbox", "full", 10), ("till", "inbox", "sojourn", 5)]));
        let place = |program: &str, queue| Queue { program: program.to_owned(), queue };
        assert_eq!(lately.rates()[&(&place("till", "inbox"), "full")], 2.0);
        lately.end_bucket(&grown(&[("till", "outbox", "full", 10)]));
        let rates = lately.rates();
        assert_eq!(rates.values().copied().collect::<Vec<_>>(), [1.0, 0.5, 1.0]);
        for _ in 0..LATELY {
            lately.end_bucket(&grown(&[]));
        }
        assert!(lately.rates().is_empty(), "nothing is lost any more");
    }

    #[test]
    fn the_worst_place_of_a_reason_is_not_that_of_another() {
        let grown = grown(&[
            ("busy", "inbox", "full", 1000),
            ("busy", "inbox", "sojourn", 1),
            ("slow", "inbox", "sojourn", 20),
            ("slow", "outbox", "sojourn", 30),
        ]);
        assert_eq!(worst_for(&grown, "full").as_deref(), Some("busy inbox"));
        assert_eq!(worst_for(&grown, "sojourn").as_deref(), Some("slow outbox"));
        assert_eq!(worst_for(&grown, "closed"), None);
        assert_eq!(by_reason(&grown), BTreeMap::from([("full", 1000), ("sojourn", 51)]));
    }
}
