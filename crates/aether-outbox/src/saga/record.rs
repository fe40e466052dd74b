//! A saga as it is stored.

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
    pub(super) fn new(state: S, step: &str) -> Self {
        let (phase, step) = (Phase::Forward, step.to_owned());
        Self {
            state,
            phase,
            step,
            attempt: 1,
            interrupted: 0,
            failures: Vec::new(),
            letter: None,
            revision: 0,
        }
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
                    return Next::Step(Self { phase: Phase::Stuck, ..self });
                }
                if !is_refused {
                    // It may have been made.
                    return Next::Step(Self { phase: Phase::Back, attempt: 1, interrupted: 0, ..self });
                }
                self.phase = Phase::Back;
            }
        }
        let next = match self.phase {
            Phase::Forward => index.checked_add(1).filter(|next| *next < steps.len()),
            Phase::Back | Phase::Stuck => index.checked_sub(1),
        };
        match (next, self.phase) {
            (Some(next), _) => {
                Next::Step(Self { step: steps[next].to_owned(), attempt: 1, interrupted: 0, ..self })
            }
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
        Record { phase, attempt, ..Record::new(0, STEPS[step]) }
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
    fn the_first_and_the_latest_failures_are_remembered() {
        let mut record = at(0, Phase::Forward, 1);
        (0..100).for_each(|number| record.note(&number.to_string()));
        let errors: Vec<_> = record.failures.iter().map(|failure| failure.error.as_str()).collect();
        assert_eq!((errors.len(), errors[0], errors[7], errors[15]), (16, "0", "7", "99"));
    }
}
