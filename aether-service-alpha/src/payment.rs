//! The payment service: charges and refunds cards, once for each order.
//!
//! A separate service with its own vibrator. It needs nothing from an order but its id. It is part of this crate
//! because the sample needs a service that declines. [`ChargeLedger`] is its pure part; [`PaymentService`] answers
//! `payments.charge` and `payments.refund` from it.

mod service;

pub use service::PaymentService;
pub(crate) use service::{CHARGE, Charge, PaymentAnswer, REFUND, Refund};

use std::num::NonZeroUsize;

use aether_service::schemars::{self, JsonSchema};
use fastrand::Rng;
use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::Chance;
use crate::order::OrderId;

/// The number of orders remembered, so that late repetitions get the same answer.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// Why a card was not charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decline {
    /// The card is not covered.
    #[error("the card is declined")]
    Card,
    /// The order was refunded before its charge arrived.
    #[error("the order was already refunded")]
    Refunded,
    /// The order was already charged with another amount or card.
    #[error("the order was already charged with other data")]
    Conflict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Charged { card: u64, cents: u64 },
    Declined,
    Refunded,
}

/// The charges by order.
#[derive(Debug)]
pub struct ChargeLedger {
    entries: LruCache<OrderId, Entry>,
    decline_rate: Chance,
    seed: u64,
}

impl ChargeLedger {
    /// An empty ledger. Whether a card is declined depends only on the card and the seed, not on the order of requests.
    /// So a run can be repeated, and all ledgers of one seed agree.
    #[must_use]
    pub fn new(decline_rate: Chance, seed: u64) -> Self {
        Self { entries: LruCache::new(REMEMBERED), decline_rate, seed }
    }

    /// Whether the ledger remembers an earlier request for an order.
    #[must_use]
    pub fn knows(&self, order: &OrderId) -> bool {
        self.entries.contains(order)
    }

    /// Charges a card for an order. A repetition changes nothing.
    ///
    /// # Errors
    /// [`Decline`], the same one in each repetition.
    pub fn charge(&mut self, order: &OrderId, card: u64, cents: u64) -> Result<(), Decline> {
        let declined = self.declines(card);
        match self.entries.get(order) {
            Some(Entry::Charged { card: charged, cents: paid }) if *charged == card && *paid == cents => {
                Ok(())
            }
            Some(Entry::Charged { .. }) => Err(Decline::Conflict),
            Some(Entry::Declined) => Err(Decline::Card),
            Some(Entry::Refunded) => Err(Decline::Refunded),
            None if declined => {
                self.entries.put(order.clone(), Entry::Declined);
                Err(Decline::Card)
            }
            None => {
                self.entries.put(order.clone(), Entry::Charged { card, cents });
                Ok(())
            }
        }
    }

    /// Refunds an order and returns the amount: 0 if it was not charged or was already refunded. Afterwards the order
    /// cannot be charged any more, because its charge may still be on the way.
    pub fn refund(&mut self, order: &OrderId) -> u64 {
        match self.entries.put(order.clone(), Entry::Refunded) {
            Some(Entry::Charged { cents, .. }) => cents,
            Some(Entry::Declined | Entry::Refunded) | None => 0,
        }
    }

    fn declines(&self, card: u64) -> bool {
        Rng::with_seed(self.seed ^ card).f64() < self.decline_rate.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u64) -> OrderId {
        OrderId::numbered(1, number)
    }

    fn ledger(decline_rate: f64) -> ChargeLedger {
        ChargeLedger::new(Chance::new(decline_rate).unwrap(), 42)
    }

    #[test]
    fn an_order_is_charged_once_and_refunded_once() {
        let mut ledger = ledger(0.0);
        assert!(!ledger.knows(&order(1)));
        assert_eq!((ledger.charge(&order(1), 5, 900), ledger.charge(&order(1), 5, 900)), (Ok(()), Ok(())));
        assert_eq!(ledger.charge(&order(1), 5, 901), Err(Decline::Conflict));
        assert_eq!(ledger.charge(&order(1), 6, 900), Err(Decline::Conflict));
        assert_eq!((ledger.refund(&order(1)), ledger.refund(&order(1))), (900, 0));
        assert_eq!(ledger.charge(&order(1), 5, 900), Err(Decline::Refunded));
    }

    #[test]
    fn a_charge_that_arrives_after_its_refund_takes_no_money() {
        let mut ledger = ledger(0.0);
        assert_eq!(ledger.refund(&order(1)), 0);
        assert_eq!(ledger.charge(&order(1), 5, 900), Err(Decline::Refunded));
        assert_eq!(ledger.refund(&order(1)), 0);
    }

    #[test]
    fn cards_are_declined_at_the_rate_and_the_same_ones_in_any_order() {
        let mut declined = Vec::new();
        let (mut upwards, mut downwards) = (ledger(0.1), ledger(0.1));
        let mut rng = Rng::with_seed(1);
        let cards: Vec<u64> = (0..10_000).map(|_| rng.u64(..)).collect();
        for (number, card) in (0..10_000_u32).zip(&cards) {
            declined.push(upwards.charge(&order(number.into()), *card, 1).is_err());
        }
        let share = declined.iter().filter(|declined| **declined).count();
        // Binomial: 1000 expected, standard deviation 30.
        assert!((900..=1100).contains(&share), "{share} of 10000 declined");
        for (number, card) in (0..10_000_u32).zip(&cards).rev() {
            let again = downwards.charge(&order(number.into()), *card, 1).is_err();
            assert_eq!(again, declined[usize::try_from(number).unwrap()]);
        }
        assert_eq!(ledger(1.0).charge(&order(1), 5, 1), Err(Decline::Card));
    }
}
