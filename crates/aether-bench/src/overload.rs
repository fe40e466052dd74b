//! The overload benchmark: the same schedules for each contestant, from half of the handler's capacity to ten times it,
//! and a step in the middle of a run.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::child::ChildProgram;
use crate::contestant::Contestant;
use crate::median::median_by;
use crate::outcome::Outcome;
use crate::processors::leave_one_to_the_handler;
use crate::report::{Report, ReportError};
use crate::run::{Plan, RunError, run};
use crate::schedule::{Phase, Schedule, ScheduleError};
use crate::stalls::Stalls;
use crate::windows::{Window, middle, windows};
use crate::work::Work;

/// The loads before and after the step, in capacities.
const STEP: (f64, f64) = (0.5, 5.0);
/// How long each side of the step lasts: as long as a load, within this.
const STEP_SIDE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));
/// The width of a window, and how many are shown before and after the step. They fit into the shortest sides.
const WINDOW: Duration = Duration::from_millis(50);
const WINDOWS: (u32, u32) = (2, 10);

/// The options of a comparison.
#[derive(Debug, Clone)]
pub struct Overload {
    /// The contestants. They take turns at each load.
    pub contestants: Vec<Contestant>,
    /// The loads, in capacities of the handler.
    pub loads: Vec<f64>,
    /// The duration of each load in each round.
    pub lasts: Duration,
    /// The number of rounds, at least one. The round with the median p99 of the strong messages is reported; all rounds
    /// of a load have the same schedule.
    pub rounds: usize,
    /// The share of strong messages.
    pub strong: f64,
    /// The random seed of the schedules.
    pub seed: u64,
    /// The work of the handler.
    pub work: Work,
    /// The size of a message, in bytes.
    pub payload_bytes: usize,
    /// Whether to run the step.
    pub step: bool,
}

impl Overload {
    /// The default loads.
    pub const LOADS: [f64; 7] = [0.5, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0];
    /// The default share of strong messages.
    pub const STRONG: f64 = 0.05;
}

/// One contestant at one load.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Run {
    /// The offered load, in capacities of the handler.
    pub load: f64,
    /// The report of the run.
    #[serde(flatten)]
    pub report: Report,
}

/// One contestant at the step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The contestant that carried the messages.
    pub contestant: String,
    /// The loads before and after, in capacities of the handler.
    pub loads: (f64, f64),
    /// Strong messages in consecutive windows.
    pub windows: Vec<Window>,
}

/// All runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The handling time of a message, in microseconds.
    pub service_us: f64,
    /// The measured capacity of the handler, in messages a second.
    pub capacity: f64,
    /// The stalls of the machine itself, measured just before the runs.
    pub stalls: Stalls,
    /// The duration of each load in each round, in seconds.
    pub seconds: f64,
    /// The number of rounds; the median round is reported.
    pub rounds: usize,
    /// The share of strong messages.
    pub strong: f64,
    /// The random seed of the schedules.
    pub seed: u64,
    /// The size of a message in bytes.
    pub payload_bytes: usize,
    /// False if it was interrupted.
    pub complete: bool,
    /// Each contestant at each load.
    pub runs: Vec<Run>,
    /// Each contestant at the step.
    pub steps: Vec<Step>,
}

/// Why a comparison failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverloadError {
    /// Without a service time there is no overload.
    #[error("the service time of the handler must be longer than zero")]
    NoWork,
    /// The schedule is not possible.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A run failed.
    #[error("{contestant} at {load} times the capacity")]
    Run {
        /// The contestant that ran.
        contestant: &'static str,
        /// The load.
        load: f64,
        /// Why.
        source: RunError,
    },
    /// A run contradicts itself.
    #[error("the counts of {contestant} at {load} times the capacity do not add up")]
    Report {
        /// The contestant that ran.
        contestant: &'static str,
        /// The load.
        load: f64,
        /// Why.
        source: ReportError,
    },
}

impl Overload {
    /// Measures the handler's capacity, then runs everything. Calls `begins` with each contestant and load before its
    /// run. When `stop` is cancelled, returns the runs so far.
    ///
    /// # Errors
    /// [`OverloadError`]
    ///
    /// # Cancel safety
    /// As [`run`].
    pub async fn run(
        &self,
        child: &ChildProgram,
        stop: &CancellationToken,
        mut begins: impl FnMut(&Contestant, f64),
    ) -> Result<Comparison, OverloadError> {
        let _ = leave_one_to_the_handler();
        let work = self.work;
        let capacity = tokio::task::spawn_blocking(move || work.capacity()).await;
        let Ok(Some(capacity)) = capacity else { return Err(OverloadError::NoWork) };
        let rounds = self.rounds.max(1);
        let mut comparison = Comparison {
            service_us: self.work.service.as_secs_f64() * 1e6,
            capacity,
            stalls: Stalls::measure(self.lasts).await,
            seconds: self.lasts.as_secs_f64(),
            rounds,
            strong: self.strong,
            seed: self.seed,
            payload_bytes: self.payload_bytes,
            complete: false,
            runs: Vec::new(),
            steps: Vec::new(),
        };
        for (number, &load) in (0_u64..).zip(&self.loads) {
            let plan = self.plan(&[Phase { rate: load * capacity, lasts: self.lasts }], number)?;
            let mut reports = vec![Vec::new(); self.contestants.len()];
            // In turns, so that a disturbance of the machine does not affect only one contestant.
            for _ in 0..rounds {
                for (contestant, reports) in self.contestants.iter().zip(&mut reports) {
                    begins(contestant, load);
                    let Some(outcome) = ran(contestant, &plan, child, load, stop).await? else {
                        return Ok(comparison);
                    };
                    let name = contestant.name();
                    let report = Report::of(name, &plan.schedule, &outcome, Some(capacity))
                        .map_err(|source| OverloadError::Report { contestant: name, load, source })?;
                    reports.push(report);
                }
            }
            for reports in reports {
                // No delivery ranks worse than any latency.
                let p99 = |report: &Report| report.strong.p99_us.unwrap_or(f64::INFINITY);
                comparison.runs.extend(median_by(reports, p99).map(|report| Run { load, report }));
            }
        }
        if self.step {
            let side = self.lasts.clamp(STEP_SIDE.0, STEP_SIDE.1);
            let phases = [STEP.0, STEP.1].map(|load| Phase { rate: load * capacity, lasts: side });
            let plan = self.plan(&phases, self.loads.len() as u64)?;
            let mut steps = vec![Vec::new(); self.contestants.len()];
            for _ in 0..rounds {
                for (contestant, steps) in self.contestants.iter().zip(&mut steps) {
                    begins(contestant, STEP.1);
                    let Some(outcome) = ran(contestant, &plan, child, STEP.1, stop).await? else {
                        return Ok(comparison);
                    };
                    steps.push(windows(&plan.schedule, &outcome, side, WINDOW, WINDOWS));
                }
            }
            for (contestant, steps) in self.contestants.iter().zip(steps) {
                let contestant = contestant.name().to_owned();
                comparison.steps.push(Step { contestant, loads: STEP, windows: middle(&steps) });
            }
        }
        comparison.complete = true;
        Ok(comparison)
    }

    /// Each load has its own schedule, the same for all contestants.
    fn plan(&self, phases: &[Phase], number: u64) -> Result<Plan, ScheduleError> {
        let seed = self.seed.wrapping_mul(1000).wrapping_add(number);
        let schedule = Arc::new(Schedule::poisson(phases, self.strong, seed)?);
        Ok(Plan { schedule, work: self.work, payload_bytes: self.payload_bytes })
    }
}

/// Runs a plan. Returns `None` if interrupted.
async fn ran(
    contestant: &Contestant,
    plan: &Plan,
    child: &ChildProgram,
    load: f64,
    stop: &CancellationToken,
) -> Result<Option<Outcome>, OverloadError> {
    match run(contestant, plan, child, stop).await {
        Ok(outcome) => Ok(Some(outcome)),
        Err(RunError::Stopped) => Ok(None),
        Err(source) => Err(OverloadError::Run { contestant: contestant.name(), load, source }),
    }
}
