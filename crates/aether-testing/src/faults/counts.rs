//! The effects of faults, counted.

use std::fmt;

/// The counts of the faults: `offered + duplicated = delivered + lost + partitioned + overflowed + refused + abandoned +
/// held`. Questions and notices are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Waves that were emitted, questions not included.
    pub offered: u64,
    /// Second copies.
    pub duplicated: u64,
    /// Waves handed to the medium.
    pub delivered: u64,
    /// Waves lost by [`Fault::lose`](crate::Fault::lose).
    pub lost: u64,
    /// Waves lost by [`Fault::partition`](crate::Fault::partition).
    pub partitioned: u64,
    /// Waves lost because too many were held back: 65,536, or 64 MiB.
    pub overflowed: u64,
    /// Waves that the medium refused after they were held back, because it was closed or they were too large.
    pub refused: u64,
    /// Waves that were still held back when the bus was closed.
    pub abandoned: u64,
    /// Waves being held back now.
    pub held: u64,
    /// Waves of which a bit was flipped, questions and answers included.
    pub corrupted: u64,
    /// Waves that were delayed.
    pub delayed: u64,
    /// Waves held back so that others could overtake them.
    pub reordered: u64,
    /// Waves that a throttle made wait.
    pub throttled: u64,
    /// Waves that a stall held back.
    pub stalled: u64,
    /// Questions asked.
    pub questions: u64,
    /// Questions that were lost or held back for longer than the patience of the asker.
    pub questions_lost: u64,
    /// Answers that were lost or held back for longer than the patience of the asker.
    pub answers_lost: u64,
    /// Notices of the framework that a partition cut off.
    pub notices_lost: u64,
}

impl FaultCounts {
    /// Whether every wave is accounted for.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.offered + self.duplicated
            == self.delivered
                + self.lost
                + self.partitioned
                + self.overflowed
                + self.refused
                + self.abandoned
                + self.held
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offered", self.offered)?;
        if self.duplicated > 0 {
            write!(f, " + {} duplicated", self.duplicated)?;
        }
        write!(f, " = {} delivered", self.delivered)?;
        for (count, name) in [
            (self.lost, "lost"),
            (self.partitioned, "partitioned"),
            (self.overflowed, "overflowed"),
            (self.refused, "refused"),
            (self.abandoned, "abandoned"),
            (self.held, "held"),
        ] {
            if count > 0 {
                write!(f, " + {count} {name}")?;
            }
        }
        for (count, name) in [
            (self.delayed, "delayed"),
            (self.reordered, "reordered"),
            (self.corrupted, "corrupted"),
            (self.throttled, "throttled"),
            (self.stalled, "stalled"),
            (self.questions, "questions"),
            (self.questions_lost, "questions lost"),
            (self.answers_lost, "answers lost"),
            (self.notices_lost, "notices lost"),
        ] {
            if count > 0 {
                write!(f, "; {count} {name}")?;
            }
        }
        Ok(())
    }
}
