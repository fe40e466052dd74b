//! A saga as it is stored.

use std::time::Duration;

use aether_core::clock::micros_since_1970;
use serde::{Deserialize, Serialize};

use super::step::StepError;

/// How many failures a saga remembers: the first ones and the latest.
const MAX_FAILURES: usize = 16;
/// How often a step may end with its process before that counts as a failure. Most such sagas only waited for their
/// turn; but a step that kills its process has to come to an end as well.
pub(super) const MAX_INTERRUPTED: u32 = 20;

/// Where a saga is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The step is to be made.
    Forward,
    /// The step is to be undone.
    Back,
    /// The step cannot be undone.
    Stuck,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailedStep {
    pub(super) step: String,
    pub(super) micros: u64,
    pub(super) error: String,
}

/// A saga that has not ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record<S> {
    pub(super) state: S,
    pub(super) phase: Phase,
    pub(super) step: String,
    pub(super) attempt: u32,
    /// The version of its definition.
    #[serde(default = "first_version")]
    pub(super) version: u32,
    /// When it came to this step, in microseconds since 1970. 0 in records of earlier programs.
    #[serde(default)]
    pub(super) since: u64,
    /// When it is undone, if it has not ended by then.
    #[serde(default)]
    pub(super) deadline: Option<u64>,
    /// How often the process has ended while the saga was at this step.
    #[serde(default)]
    pub(super) interrupted: u32,
    pub(super) failures: Vec<FailedStep>,
    /// The dead letter of a saga that is stuck.
    #[serde(default)]
    pub(super) letter: Option<u64>,
    /// Grows with each write. Decisions made from an older one are not written.
    pub(super) revision: u64,
}

/// The version of definitions without one.
pub(super) const fn first_version() -> u32 {
    1
}

/// A saga that could not be undone. It stays as it is until [`Sagas::retry`](super::Sagas::retry).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StuckSaga<S> {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: S,
    /// The step that could not be undone.
    pub step: String,
    /// The failures, the latest last.
    pub errors: Vec<String>,
    /// The number of its dead letter, once that is written.
    pub letter: Option<u64>,
}

/// How a saga ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Completed,
    Undone,
}

/// The next action.
#[derive(Debug, Clone)]
pub(super) enum Next<S> {
    Step(Record<S>),
    Ended(Ended),
}

/// The properties of a step that a record needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) attempts: u32,
    pub(super) undo_attempts: u32,
}

impl<S> Record<S> {
    /// A saga before its first step.
    pub(super) fn new(state: S, step: &str, version: u32, within: Option<Duration>) -> Self {
        let (phase, step, since) = (Phase::Forward, step.to_owned(), micros_since_1970());
        let end =
            |within: Duration| since.saturating_add(u64::try_from(within.as_micros()).unwrap_or(u64::MAX));
        Self {
            state,
            phase,
            step,
            attempt: 1,
            version,
            since,
            deadline: within.map(end),
            interrupted: 0,
            failures: Vec::new(),
            letter: None,
            revision: 0,
        }
    }

    /// The time that is left before the saga is undone. `None` without a limit, and once it is undone.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let deadline = self.deadline.filter(|_| self.phase == Phase::Forward)?;
        Some(Duration::from_micros(deadline.saturating_sub(micros_since_1970())))
    }

    pub(super) fn is_late(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }

    /// Whether an attempt at the step may have begun.
    pub(super) const fn may_have_begun(&self) -> bool {
        self.attempt > 1 || self.interrupted > 0
    }

    /// The saga as it is undone from its step on, for this reason.
    pub(super) fn given_up(mut self, reason: &str) -> Self {
        self.note(reason);
        Self { revision: self.revision + 1, ..self.at(Phase::Back) }
    }

    /// Before the first attempt at its step.
    fn at(self, phase: Phase) -> Self {
        Self { phase, attempt: 1, interrupted: 0, since: micros_since_1970(), ..self }
    }

    /// The action after an attempt at its step, which is the one of this index.
    pub(super) fn after(
        mut self,
        made: Result<S, StepError>,
        steps: &[&str],
        index: usize,
        limits: Limits,
    ) -> Next<S> {
        self.revision += 1;
        let is_refused = matches!(made, Err(StepError::Refused(_)));
        match made {
            Ok(state) => self.state = state,
            Err(StepError::Refused(error) | StepError::Failed(error)) => {
                self.note(&error);
                let most = if self.phase == Phase::Forward { limits.attempts } else { limits.undo_attempts };
                if self.attempt < most && !(is_refused && self.phase == Phase::Forward) {
                    return Next::Step(Self { attempt: self.attempt + 1, ..self });
                }
                if self.phase != Phase::Forward {
                    return Next::Step(Self { phase: Phase::Stuck, since: micros_since_1970(), ..self });
                }
                if !is_refused {
                    // It may have been made.
                    return Next::Step(self.at(Phase::Back));
                }
                self.phase = Phase::Back;
            }
        }
        let next = match self.phase {
            Phase::Forward => index.checked_add(1).filter(|next| *next < steps.len()),
            Phase::Back | Phase::Stuck => index.checked_sub(1),
        };
        match (next, self.phase) {
            (Some(next), phase) => Next::Step(Self { step: steps[next].to_owned(), ..self.at(phase) }),
            (None, Phase::Forward) => Next::Ended(Ended::Completed),
            (None, _) => Next::Ended(Ended::Undone),
        }
    }

    fn note(&mut self, error: &str) {
        let error = error[..error.floor_char_boundary(512)].to_owned();
        if self.failures.len() == MAX_FAILURES {
            self.failures.remove(MAX_FAILURES / 2);
        }
        self.failures.push(FailedStep { step: self.step.clone(), micros: micros_since_1970(), error });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [&str; 3] = ["reserve", "pay", "ship"];
    const LIMITS: Limits = Limits { attempts: 2, undo_attempts: 2 };

    fn at(step: usize, phase: Phase, attempt: u32) -> Record<u32> {
        Record { phase, attempt, ..Record::new(0, STEPS[step], 1, None) }
    }

    fn next(step: usize, phase: Phase, attempt: u32, made: Result<u32, StepError>) -> (String, u32) {
        match at(step, phase, attempt).after(made, &STEPS, step, LIMITS) {
            Next::Step(record) => {
                (format!("{:?} {} {}", record.phase, record.step, record.attempt), record.state)
            }
            Next::Ended(ended) => (format!("{ended:?}"), 0),
        }
    }

    #[test]
    fn a_saga_goes_forwards_step_by_step_and_backwards_from_the_step_that_may_have_been_made() {
        let failed = || Err(StepError::failed("no answer"));
        let refused = || Err(StepError::refused("sold out"));
        assert_eq!(next(0, Phase::Forward, 2, Ok(7)), ("Forward pay 1".to_owned(), 7));
        assert_eq!(next(2, Phase::Forward, 1, Ok(7)).0, "Completed");
        assert_eq!(next(1, Phase::Forward, 1, failed()), ("Forward pay 2".to_owned(), 0));
        assert_eq!(next(1, Phase::Forward, 2, failed()).0, "Back pay 1");
        assert_eq!(next(1, Phase::Forward, 1, refused()).0, "Back reserve 1");
        assert_eq!(next(0, Phase::Forward, 1, refused()).0, "Undone");
        assert_eq!(next(1, Phase::Back, 1, Ok(7)), ("Back reserve 1".to_owned(), 7));
        assert_eq!(next(0, Phase::Back, 1, Ok(7)).0, "Undone");
        assert_eq!(next(1, Phase::Back, 1, failed()).0, "Back pay 2");
        assert_eq!(next(1, Phase::Back, 2, refused()).0, "Stuck pay 2");
    }

    #[test]
    fn time_is_left_until_the_deadline_and_an_undone_saga_has_none() {
        let record = |within| Record::new(0, "pay", 1, within);
        assert_eq!((record(None).time_left(), record(None).is_late()), (None, false));
        let hour = record(Some(Duration::from_secs(3600)));
        assert!(hour.time_left().is_some_and(|left| left > Duration::from_secs(3000)) && !hour.is_late());
        assert!(!record(Some(Duration::MAX)).is_late() && record(Some(Duration::ZERO)).is_late());
        let undone = record(Some(Duration::ZERO)).given_up("too late");
        assert_eq!((undone.time_left(), undone.is_late(), undone.revision), (None, false, 1));
    }

    #[test]
    fn the_first_and_the_latest_failures_are_remembered() {
        let mut record = at(0, Phase::Forward, 1);
        (0..100).for_each(|number| record.note(&number.to_string()));
        let errors: Vec<_> = record.failures.iter().map(|failure| failure.error.as_str()).collect();
        assert_eq!((errors.len(), errors[0], errors[7], errors[15]), (16, "0", "7", "99"));
    }
}
