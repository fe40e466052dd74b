//! The earlier attempts at handling a wave that is tried again. Bounded, and local to the process.

use std::time::SystemTime;

use crate::amplitude::Amplitude;

/// The maximum number of failed attempts of one wave that are kept: the first ones and the latest.
const MAX_FAILED_ATTEMPTS: usize = 32;

/// An attempt at handling a wave that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The number of the attempt, from 0: [`Wave::attempt`](crate::Wave::attempt).
    pub attempt: u8,
    /// When it failed, by the clock of this machine.
    pub at: SystemTime,
    /// Why: one line of at most [`MAX_HINT_BYTES`](super::MAX_HINT_BYTES) bytes.
    pub error: String,
}

/// The earlier attempts of a wave that is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedAttempts {
    /// The amplitude of the first attempt.
    first: Amplitude,
    attempts: Vec<FailedAttempt>,
}

impl FailedAttempt {
    pub(crate) fn now(attempt: u8, error: String) -> Self {
        Self { attempt, at: crate::clock::wall_time(), error }
    }

    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.error.len()
    }
}

impl FailedAttempts {
    pub(super) const fn new(first: Amplitude) -> Self {
        Self { first, attempts: Vec::new() }
    }

    /// Adds an attempt. Without room it replaces the latest one.
    pub(super) fn push(&mut self, failed: FailedAttempt) {
        self.attempts.truncate(MAX_FAILED_ATTEMPTS - 1);
        self.attempts.push(failed);
    }

    pub(super) const fn first(&self) -> Amplitude {
        self.first
    }

    pub(super) fn attempts(&self) -> &[FailedAttempt] {
        &self.attempts
    }

    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.attempts.iter().map(FailedAttempt::weight).sum::<usize>()
    }
}
