//! The summary of the stock, in units.

use std::fmt;
use std::iter::Sum;

/// The summary of the stock: `supplied = available + reserved + sold`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StockSummary {
    /// Initial units and restocked units.
    pub supplied: u64,
    /// Units that can be reserved.
    pub available: u64,
    /// Units that are reserved and not yet sold.
    pub reserved: u64,
    /// Units that were sold.
    pub sold: u64,
}

impl StockSummary {
    /// Whether every unit is accounted for. Always true; tests assert it.
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
