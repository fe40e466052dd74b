//! Clocks that are off: beyond the bound for stamps a replica takes nothing of another one, so both have to say so.

use std::fmt;
use std::time::Duration;

/// How far the clock of another replica is ahead of the clock here, or behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockOffset {
    is_behind: bool,
    by: Duration,
}

impl ClockOffset {
    /// From two readings in microseconds since 1970.
    pub(super) const fn of(there: u64, here: u64) -> Self {
        Self { is_behind: there < here, by: Duration::from_micros(there.abs_diff(here)) }
    }

    /// Whether the other clock is behind.
    #[must_use]
    pub const fn is_behind(self) -> bool {
        self.is_behind
    }

    /// By how much the clocks differ, the time that a message takes included.
    #[must_use]
    pub const fn by(self) -> Duration {
        self.by
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s {}", self.by.as_secs(), if self.is_behind { "behind" } else { "ahead" })
    }
}

/// The clock problem, here or at the others, that keeps replicas from taking each other's writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockTrouble {
    /// The newest stamp of this replica is further ahead of its clock than others allow: its clock was ahead once, or is
    /// behind now. Its writes follow that stamp, so the others refuse them until its time has come.
    OwnStamps {
        /// How far.
        ahead: Duration,
    },
    /// The clocks of most other replicas differ from the one here by more than stamps may be ahead.
    Peers {
        /// One of them.
        replica: String,
        /// Its clock.
        clock: ClockOffset,
    },
}

impl fmt::Display for ClockTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnStamps { ahead } => write!(
                f,
                "the newest stamp here is {}s ahead of the clock, so the others refuse what is written here until then: this \
                 clock was ahead, or is behind now; set it, or stop this replica and use `aether field restamp` on its file",
                ahead.as_secs()
            ),
            Self::Peers { replica, clock } => write!(
                f,
                "the clock of the replica {replica:?} is {clock} the one here, so one of the two refuses the writes of the \
                 other: set the clocks"
            ),
        }
    }
}
