//! The customers: made-up orders from a seed.
//!
//! In a real service orders come from people. Here they come from a random generator, so that a demonstration needs no
//! input and a test can repeat it. The articles are the default ones of the inventory sample.

use fastrand::Rng;

use crate::order::{Order, OrderId};

/// The articles and their prices in cents.
const CATALOGUE: [(&str, u64); 5] =
    [("chair", 8_900), ("desk", 24_900), ("lamp", 3_900), ("shelf", 12_900), ("table", 39_900)];
/// The maximum number of units in one order.
const MOST_UNITS: u32 = 3;

/// An endless source of orders.
#[derive(Debug)]
pub(crate) struct Customers {
    /// Distinguishes the orders of this service instance from the orders of other instances.
    instance: u64,
    made: u64,
    rng: Rng,
}

impl Customers {
    pub(crate) fn new(instance: u64, seed: u64) -> Self {
        Self { instance, made: 0, rng: Rng::with_seed(seed) }
    }

    /// The number of orders created.
    pub(crate) const fn made(&self) -> u64 {
        self.made
    }

    pub(crate) fn next_order(&mut self) -> Order {
        self.made += 1;
        let (sku, price) = CATALOGUE[self.rng.usize(..CATALOGUE.len())];
        let quantity = self.rng.u32(1..=MOST_UNITS);
        let id = OrderId::numbered(self.instance, self.made);
        Order::new(id, sku, quantity, price * u64::from(quantity), self.rng.u64(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_orders_and_an_instance_its_own_ids() {
        let orders = |instance, seed| {
            let mut customers = Customers::new(instance, seed);
            (0..50).map(|_| customers.next_order()).collect::<Vec<_>>()
        };
        assert_eq!(orders(1, 7), orders(1, 7));
        assert_ne!(orders(1, 7), orders(1, 8));
        for (one, other) in orders(1, 7).iter().zip(&orders(2, 7)) {
            assert_ne!(one.id, other.id);
            assert_eq!((one.sku, one.quantity, one.card), (other.sku, other.quantity, other.card));
        }
        let known: std::collections::HashSet<_> = orders(1, 7).into_iter().map(|order| order.sku).collect();
        assert_eq!(known.len(), CATALOGUE.len(), "fifty orders cover all articles");
    }
}
