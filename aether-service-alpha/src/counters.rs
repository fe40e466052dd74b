//! Counts orders by outcome.
//!
//! The saga counts; anyone may read. An order is opened once and settled at most once; the type [`OpenOrder`] ensures
//! that.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// How an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// Paid and sold.
    Completed,
    /// Refused: the goods are not available.
    Refused,
    /// Undone: the reservation is released and the payment refunded.
    Compensated,
}

/// The number of orders by outcome: `created = completed + refused + compensated + in_flight`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OrderSummary {
    /// Orders created.
    pub created: u64,
    /// Orders paid and sold.
    pub completed: u64,
    /// Orders refused because the goods were not available.
    pub refused: u64,
    /// Orders undone.
    pub compensated: u64,
    /// Orders without a known outcome so far.
    pub in_flight: u64,
}

impl OrderSummary {
    /// Whether every order is accounted for. Always true; tests assert it.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.created == self.completed + self.refused + self.compensated + self.in_flight
    }
}

impl fmt::Display for OrderSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created, completed, refused, compensated, in_flight } = self;
        write!(
            f,
            "orders: {created} created = {completed} completed + {refused} refused + {compensated} compensated \
             + {in_flight} in flight"
        )
    }
}

/// The live counters. All numbers of one summary are from the same moment.
#[derive(Debug, Default)]
pub struct OrderCounters {
    counts: Mutex<OrderSummary>,
}

/// An order counted as in flight. Dropped unsettled, it stays in flight.
#[derive(Debug)]
pub(crate) struct OpenOrder {
    counters: Arc<OrderCounters>,
}

impl OrderCounters {
    /// The numbers now.
    #[must_use]
    pub fn summary(&self) -> OrderSummary {
        *self.counts.lock()
    }

    /// Counts a new order.
    pub(crate) fn open(self: &Arc<Self>) -> OpenOrder {
        let mut counts = self.counts.lock();
        counts.created += 1;
        counts.in_flight += 1;
        OpenOrder { counters: Arc::clone(self) }
    }
}

impl OpenOrder {
    pub(crate) fn settle(self, outcome: Outcome) {
        let mut counts = self.counters.counts.lock();
        counts.in_flight -= 1;
        *match outcome {
            Outcome::Completed => &mut counts.completed,
            Outcome::Refused => &mut counts.refused,
            Outcome::Compensated => &mut counts.compensated,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_in_flight_until_it_is_settled_and_stays_so_when_it_is_dropped() {
        let counters = Arc::new(OrderCounters::default());
        let orders: Vec<_> = (0..4).map(|_| counters.open()).collect();
        assert_eq!(counters.summary(), OrderSummary { created: 4, in_flight: 4, ..OrderSummary::default() });
        let outcomes = [Some(Outcome::Completed), Some(Outcome::Refused), Some(Outcome::Compensated), None];
        for (order, outcome) in orders.into_iter().zip(outcomes) {
            match outcome {
                Some(outcome) => order.settle(outcome),
                None => drop(order),
            }
            assert!(counters.summary().adds_up());
        }
        assert_eq!(
            counters.summary().to_string(),
            "orders: 4 created = 1 completed + 1 refused + 1 compensated + 1 in flight"
        );
    }
}
