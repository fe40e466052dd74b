//! What is lost, by reason and place: the first thing that the page shows.

use std::collections::BTreeMap;

use aether_core::Ledger;
use serde::Serialize;

use crate::status::ProgramLine;

/// The maximum number of places that are listed.
const MOST_PLACES: usize = 20;
const UPSTREAM: &str = "lost_upstream";

/// The losses of all processes since they started.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Losses {
    pub(crate) waves: u64,
    pub(crate) per_second: f64,
    /// Without reasons for which nothing was lost.
    pub(crate) by_reason: BTreeMap<&'static str, u64>,
    /// What was lost a second in the last 15 seconds.
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
    /// What the program loses a second, for all reasons.
    lost_per_second: f64,
}

impl Losses {
    pub(crate) fn of(programs: &[ProgramLine]) -> Self {
        let mut losses = Self::default();
        for program in programs {
            losses.per_second += program.lost_per_second;
            losses.add(program, "inbox", &program.inboxes.0);
            losses.add(program, "outbox", &program.outbox.0);
        }
        let places = &mut losses.places;
        places.sort_by(|a, b| {
            b.lost_per_second.total_cmp(&a.lost_per_second).then_with(|| b.waves.cmp(&a.waves))
        });
        places.truncate(MOST_PLACES);
        losses
    }

    fn add(&mut self, program: &ProgramLine, queue: &'static str, ledger: &Ledger) {
        let shed = ledger.losses().into_iter().map(|(reason, waves)| (reason.as_str(), waves));
        for (reason, waves) in shed.chain([(UPSTREAM, ledger.lost_upstream)]) {
            if waves == 0 {
                continue;
            }
            // Counts from the network could wrap.
            self.waves = self.waves.saturating_add(waves);
            let sum = self.by_reason.entry(reason).or_default();
            *sum = sum.saturating_add(waves);
            let lost_per_second = program.lost_per_second;
            let program = program.program.clone();
            self.places.push(Place { program, queue, reason, waves, lost_per_second });
        }
    }
}
