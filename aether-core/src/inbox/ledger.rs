//! The ledger of an inbox: what was offered, and the fate of each wave.

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
    /// Still queued or in flight when the receiver left.
    Closed,
    /// Could not be encoded for the network.
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

/// The number of waves offered to an inbox, and the fate of each. Exact at every moment: `offered = delivered +
/// shed_full + shed_below_floor + shed_sojourn + expired + shed_closed + shed_unsendable + lost_upstream + queued`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Ledger {
    /// Waves routed to the inbox, and those that were lost on the way to it.
    pub offered: u64,
    /// Waves taken by the receiver.
    pub delivered: u64,
    /// Waves dropped because the inbox was full and they were the weakest.
    pub shed_full: u64,
    /// Waves weaker than the noise floor on arrival.
    pub shed_below_floor: u64,
    /// Waves that waited longer than the sojourn cap.
    pub shed_sojourn: u64,
    /// Waves that decayed below the noise floor while they waited.
    pub expired: u64,
    /// Waves still queued when the receiver left, and waves of a group in flight to a member that left.
    pub shed_closed: u64,
    /// Waves that could not be encoded for the network; outboxes only.
    pub shed_unsendable: u64,
    /// Waves lost on the way to the inbox, detected by gaps in the sequence numbers; see
    /// [`MediumStatus::lost_upstream`](crate::medium::MediumStatus::lost_upstream). Counted when the gap is detected.
    pub lost_upstream: u64,
    /// Waves waiting now.
    pub queued: u64,
}

impl Ledger {
    /// All lost waves, whatever the reason.
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

    /// Whether every offered wave is accounted for. Always true; for assertions in tests.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.offered == self.delivered + self.lost() + self.queued
    }

    /// The counts of waves dropped on purpose, by reason, for metrics; `lost_upstream` is not among them.
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

    /// Combines two ledgers count by count.
    #[inline]
    pub(crate) fn combined(&self, other: &Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            offered: with(self.offered, other.offered),
            delivered: with(self.delivered, other.delivered),
            shed_full: with(self.shed_full, other.shed_full),
            shed_below_floor: with(self.shed_below_floor, other.shed_below_floor),
            shed_sojourn: with(self.shed_sojourn, other.shed_sojourn),
            expired: with(self.expired, other.expired),
            shed_closed: with(self.shed_closed, other.shed_closed),
            shed_unsendable: with(self.shed_unsendable, other.shed_unsendable),
            lost_upstream: with(self.lost_upstream, other.lost_upstream),
            queued: with(self.queued, other.queued),
        }
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
        *self = self.combined(&other, |a, b| a + b);
    }
}

impl Add for Ledger {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}
