//! The services: every vibrator that announces itself, and every process with its account.

use aether_core::Floor;
use aether_core::presence::Announcement;
use serde::Serialize;

use crate::pulses::{NamedPast, PastLine, Pulses};
use crate::status::{StatusSource, WholeProcess, floor_as_number};

/// The maximum number of patterns of a vibrator that are listed, of vibrators, and of processes.
const MOST_PATTERNS: usize = 64;
const MOST_VIBRATORS: usize = 1000;
const MOST_PROCESSES: usize = 500;
/// The buckets of the past of a vibrator: five minutes.
const PAST: usize = 60;

#[derive(Debug, Serialize)]
pub(crate) struct Services {
    vibrators: Vec<VibratorLine>,
    processes: Vec<ProcessWithPast>,
    /// The offers and losses a second of the vibrators of each name in the last five minutes, in buckets of five
    /// seconds.
    pasts: Vec<NamedPast>,
    /// Vibrators and processes beyond the bounds; `/api/accounts` has all processes.
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct ProcessWithPast {
    #[serde(flatten)]
    process: WholeProcess,
    past: Option<PastLine>,
}

#[derive(Debug, Serialize)]
struct VibratorLine {
    name: String,
    instance: String,
    hears: Vec<HeardLine>,
    /// Patterns that are not listed.
    more: usize,
    #[serde(serialize_with = "floor_as_number")]
    effective_floor: Floor,
}

#[derive(Debug, Serialize)]
struct HeardLine {
    pattern: String,
    group: Option<String>,
}

impl Services {
    pub(crate) fn of(source: &StatusSource, pulses: &Pulses) -> Self {
        let (vibrators, mut processes) = (source.roster().vibrators(), source.whole_processes());
        let left_out =
            vibrators.len().saturating_sub(MOST_VIBRATORS) + processes.len().saturating_sub(MOST_PROCESSES);
        processes.truncate(MOST_PROCESSES);
        let with_past = |process: WholeProcess| ProcessWithPast {
            past: pulses.of_process(&process.account().process.to_string()),
            process,
        };
        Self {
            vibrators: vibrators.iter().take(MOST_VIBRATORS).map(VibratorLine::of).collect(),
            processes: processes.into_iter().map(with_past).collect(),
            pasts: pulses.of_vibrators(PAST),
            left_out,
        }
    }
}

impl VibratorLine {
    fn of(announced: &Announcement) -> Self {
        let hears = announced.heard.iter().take(MOST_PATTERNS).map(|heard| HeardLine {
            pattern: heard.pattern.to_string(),
            group: heard.group.as_deref().map(str::to_owned),
        });
        Self {
            name: announced.vibrator.name().to_owned(),
            instance: format!("{:x}", announced.vibrator.instance()),
            hears: hears.collect(),
            more: announced.heard.len().saturating_sub(MOST_PATTERNS),
            effective_floor: announced.effective_floor,
        }
    }
}
