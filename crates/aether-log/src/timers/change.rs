//! What is stored for later, and the requests to change it.

use std::fmt;

use crate::schedule::Schedule;
use crate::sealing::{NotSealed, Sealing};
use crate::store::{AppendError, Entry};
use crate::stored_wave::sealed;

/// A wave for later.
#[derive(Debug, Clone)]
pub(crate) struct Timer {
    /// In microseconds since 1970.
    pub(crate) due: u64,
    pub(crate) entry: Entry,
}

#[derive(Debug)]
pub(crate) enum Change {
    Keep(Timer),
    /// Keeps a schedule in place of the one of the same key.
    Put {
        key: String,
        schedule: Schedule,
        timer: Timer,
    },
    Cancel {
        key: String,
    },
}

/// Is called with the outcome: whether a schedule of the key was there. Dropped when the program ends before that.
type ChangeDone = Box<dyn FnOnce(Result<bool, AppendError>) + Send>;

/// A change that waits to be written.
pub(crate) struct Changed {
    pub(crate) change: Change,
    pub(crate) done: ChangeDone,
}

impl Changed {
    pub(super) fn sealed(self, sealing: &Sealing) -> Result<Self, NotSealed> {
        let of = |Timer { due, entry }| Ok(Timer { due, entry: sealed(entry, sealing)? });
        let change = match self.change {
            Change::Keep(timer) => Change::Keep(of(timer)?),
            Change::Put { key, schedule, timer } => Change::Put { key, schedule, timer: of(timer)? },
            cancel @ Change::Cancel { .. } => cancel,
        };
        Ok(Self { change, ..self })
    }

    /// The memory that it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        let contents = match &self.change {
            Change::Keep(timer) | Change::Put { timer, .. } => {
                timer.entry.name.len() + timer.entry.body.len()
            }
            Change::Cancel { .. } => 0,
        };
        size_of::<Self>() + contents
    }
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change.fmt(f)
    }
}
