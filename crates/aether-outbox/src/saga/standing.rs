//! A saga that makes no progress, for an operator.

use std::time::{Duration, SystemTime};

use super::record::{Phase, Record};

/// Why a saga makes no progress.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It waits for its turn, or for a runner.
    Waiting,
    /// Its step has failed, and is tried again.
    Retrying,
    /// It could not be undone, and waits for [`Sagas::retry`](super::Sagas::retry).
    Stuck,
    /// This program has no definition for it, for this reason. It waits for a program that has.
    Undefined(String),
}

/// A saga that makes no progress. Returned by [`Sagas::standing_still`](super::Sagas::standing_still).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StandingSaga {
    /// Its id.
    pub id: String,
    /// The name of the sagas.
    pub saga: String,
    /// The version of its definition; 0 if nothing of it can be read, then the step is empty as well.
    pub version: u32,
    /// The step that it is at.
    pub step: String,
    /// Whether it is undone.
    pub is_undone: bool,
    /// Why it makes no progress.
    pub why: Standing,
    /// When it came to the step. `None` for a saga that an earlier version of this crate has brought there.
    pub since: Option<SystemTime>,
    /// How many attempts at the step have failed.
    pub attempts: u32,
    /// The last failure, also at an earlier step.
    pub last_error: Option<String>,
}

impl StandingSaga {
    pub(super) fn of<S>(saga: &str, id: String, record: Option<&Record<S>>, why: Standing) -> Self {
        let failed = |record: &Record<S>| match record.phase {
            Phase::Stuck => record.attempt,
            Phase::Forward | Phase::Back => record.attempt.saturating_sub(1),
        };
        let since = record.map(|record| record.since).filter(|since| *since > 0);
        Self {
            id,
            saga: saga.to_owned(),
            version: record.map_or(0, |record| record.version),
            step: record.map(|record| record.step.clone()).unwrap_or_default(),
            is_undone: record.is_some_and(|record| record.phase != Phase::Forward),
            why,
            since: since.map(|since| SystemTime::UNIX_EPOCH + Duration::from_micros(since)),
            attempts: record.map_or(0, failed),
            last_error: record
                .and_then(|record| record.failures.last())
                .map(|failed| format!("{}: {}", failed.step, failed.error)),
        }
    }
}
