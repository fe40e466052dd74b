//! The account of an inbox: what was offered, and what became of each wave.

use std::ops::{Add, AddAssign};

/// Why a wave was dropped on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShedReason {
    /// The inbox was full and this was the oldest of the weakest waves.
    Full,
    /// Weaker than the receiver's noise floor when it arrived.
    BelowFloor,
    /// Waited longer than the sojourn cap.
    Sojourn,
    /// Decayed below the noise floor while it waited.
    Expired,
    /// Still queued, or on its way, when the receiver went away.
    Closed,
    /// Could not be written for the network.
    Unsendable,
}

impl ShedReason {
    /// The lower-case name, as used in metrics: `full`, `below_floor`, `sojourn`, `expired`, `closed`,
    /// `unsendable`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::BelowFloor => "below_floor",
            Self::Sojourn => "sojourn",
            Self::Expired => "expired",
            Self::Closed => "closed",
            Self::Unsendable => "unsendable",
        }
    }
}

/// What an inbox was offered and what became of it, in waves. Exact at every moment:
/// `offered = delivered + shed_full + shed_below_floor + shed_sojourn + expired + shed_closed + shed_unsendable +
/// lost_upstream + queued`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Ledger {
    /// Waves that were routed to the inbox, and those that would have been had they not been lost on the way.
    pub offered: u64,
    /// Waves that the receiver took.
    pub delivered: u64,
    /// Waves dropped because the inbox was full and they were the weakest.
    pub shed_full: u64,
    /// Waves weaker than the noise floor on arrival.
    pub shed_below_floor: u64,
    /// Waves that waited longer than the sojourn cap.
    pub shed_sojourn: u64,
    /// Waves that decayed below the noise floor while they waited.
    pub expired: u64,
    /// Waves still queued when the receiver went away, and waves of a group on their way to a member that left.
    pub shed_closed: u64,
    /// Waves that could not be written for the network; of an outbox.
    pub shed_unsendable: u64,
    /// Waves that were sent to the inbox and lost on the way, known from gaps in the numbers of those that came; see
    /// [`MediumStatus::lost_upstream`](crate::medium::MediumStatus::lost_upstream). They count when the gap is noticed.
    pub lost_upstream: u64,
    /// Waves that wait now.
    pub queued: u64,
}

impl Ledger {
    /// All waves that were lost, whatever the reason.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.shed_full
            + self.shed_below_floor
            + self.shed_sojourn
            + self.expired
            + self.shed_closed
            + self.shed_unsendable
            + self.lost_upstream
    }

    /// Whether every wave that was offered is accounted for. Always true; what tests assert.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.offered == self.delivered + self.lost() + self.queued
    }

    /// The counts of what was dropped on purpose by reason, for metrics; `lost_upstream` is not among them.
    #[must_use]
    pub const fn losses(&self) -> [(ShedReason, u64); 6] {
        [
            (ShedReason::Full, self.shed_full),
            (ShedReason::BelowFloor, self.shed_below_floor),
            (ShedReason::Sojourn, self.shed_sojourn),
            (ShedReason::Expired, self.expired),
            (ShedReason::Closed, self.shed_closed),
            (ShedReason::Unsendable, self.shed_unsendable),
        ]
    }

    pub(super) fn count_loss(&mut self, reason: ShedReason) {
        *match reason {
            ShedReason::Full => &mut self.shed_full,
            ShedReason::BelowFloor => &mut self.shed_below_floor,
            ShedReason::Sojourn => &mut self.shed_sojourn,
            ShedReason::Expired => &mut self.expired,
            ShedReason::Closed => &mut self.shed_closed,
            ShedReason::Unsendable => &mut self.shed_unsendable,
        } += 1;
    }
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, other: Self) {
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.shed_full += other.shed_full;
        self.shed_below_floor += other.shed_below_floor;
        self.shed_sojourn += other.shed_sojourn;
        self.expired += other.expired;
        self.shed_closed += other.shed_closed;
        self.shed_unsendable += other.shed_unsendable;
        self.lost_upstream += other.lost_upstream;
        self.queued += other.queued;
    }
}

impl Add for Ledger {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}
