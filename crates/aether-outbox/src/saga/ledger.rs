//! The account of sagas of one name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The account of the sagas of one name: `started = completed + undone + running + stuck + undefined`. It survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SagaLedger {
    /// Sagas that were started.
    pub started: u64,
    /// Sagas whose last step was made.
    pub completed: u64,
    /// Sagas that failed, and whose steps were undone.
    pub undone: u64,
    /// Sagas that have not ended.
    pub running: u64,
    /// Sagas that could not be undone, and wait for an operator.
    pub stuck: u64,
    /// Sagas for which this program has no definition, or whose state it cannot read. They wait for a program that has.
    #[serde(default)]
    pub undefined: u64,
}

impl SagaLedger {
    /// Whether the sums agree.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.started == self.completed + self.undone + self.running + self.stuck + self.undefined
    }
}

impl fmt::Display for SagaLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { started, completed, undone, running, stuck, undefined } = self;
        write!(
            f,
            "sagas: {started} started = {completed} completed + {undone} undone + {running} running + {stuck} stuck \
             + {undefined} undefined"
        )
    }
}
