//! What became of the stock, in units.

use std::fmt;
use std::iter::Sum;

/// The account of the stock: `supplied = available + reserved + sold`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StockSummary {
    /// Units there were in the beginning, and those that came by restocking.
    pub supplied: u64,
    /// Units that can be reserved.
    pub available: u64,
    /// Units that are reserved and not sold yet.
    pub reserved: u64,
    /// Units that were sold.
    pub sold: u64,
}

impl StockSummary {
    /// Whether no unit was lost or made up. Always true; what tests assert.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.supplied == self.available + self.reserved + self.sold
    }
}

impl Sum for StockSummary {
    fn sum<I: Iterator<Item = Self>>(summaries: I) -> Self {
        summaries.fold(Self::default(), |sum, next| Self {
            supplied: sum.supplied + next.supplied,
            available: sum.available + next.available,
            reserved: sum.reserved + next.reserved,
            sold: sum.sold + next.sold,
        })
    }
}

impl fmt::Display for StockSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { supplied, available, reserved, sold } = self;
        write!(
            f,
            "stock: {supplied} units supplied = {available} available + {reserved} reserved + {sold} sold"
        )
    }
}
