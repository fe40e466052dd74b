//! What the service hears, answers and tells, as JSON.
//!
//! These are its public contract: other services need not link this crate, they write the same JSON.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::id::{OrderId, Sku};
use crate::stock::Refusal;

/// Heard: take units off the shelf for an order. Payload: [`Reserve`].
pub const RESERVE: &str = "inventory.reserve";
/// Heard: put them back. Payload: [`About`].
pub const RELEASE: &str = "inventory.release";
/// Heard: sell them. Payload: [`About`].
pub const COMMIT: &str = "inventory.commit";
/// Heard: add units. Payload: [`Supply`].
pub const RESTOCK: &str = "inventory.restock";

/// Told: an order has its units. Payload: [`Told`].
pub const RESERVED: &str = "inventory.reserved";
/// Told: an order does not get its units. Payload: [`Told`].
pub const REFUSED: &str = "inventory.refused";
/// Told: the units of an order are back. Payload: [`Told`].
pub const RELEASED: &str = "inventory.released";
/// Told: units of an article were added. Payload: [`Supply`].
pub const RESTOCKED: &str = "inventory.restocked";
/// Told: an article runs low, as a claim about it; the same with the phase of a retraction when it no longer does.
/// Payload: [`Low`].
pub const LOW: &str = "inventory.low";

/// Told: the service is there, and how much stock there is. Payload: [`Level`].
pub const LEVEL: &str = "inventory.level";

/// Units wanted for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// Which order.
    pub order: OrderId,
    /// Which article.
    pub sku: Sku,
    /// How many units.
    pub quantity: NonZeroU32,
}

/// How much stock there is, all articles together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Units that can be reserved.
    pub available: u64,
    /// Units that are reserved and not sold yet.
    pub reserved: u64,
}

/// An order to be released or sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Which order.
    pub order: OrderId,
}

/// Units of an article that come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// Which article.
    pub sku: Sku,
    /// How many units.
    pub quantity: NonZeroU32,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// The order has its units.
    Reserved {
        /// How many units of the article can still be reserved.
        available: u64,
    },
    /// The order does not get its units.
    Refused {
        /// Why.
        #[serde(flatten)]
        refusal: Refusal,
    },
    /// The order holds nothing (any more).
    Released,
    /// The order was sold already and cannot be released.
    AlreadySold,
    /// The order is sold.
    Sold,
    /// The order has no reservation that could be sold.
    NotReserved,
    /// The units were added.
    Restocked {
        /// How many units of the article can be reserved now.
        available: u64,
    },
}

/// What became of an order, for whoever listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Told {
    /// Which order.
    pub order: OrderId,
    /// Which article.
    pub sku: Sku,
    /// How many units.
    pub quantity: NonZeroU32,
    /// Why, if it was refused.
    #[serde(flatten)]
    pub refusal: Option<Refusal>,
}

/// An article that runs low.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Low {
    /// Which article.
    pub sku: Sku,
    /// How many units can be reserved.
    pub available: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_contract_in_json() {
        let reserve: Reserve =
            serde_json::from_value(json!({ "order": "17", "sku": "lamp", "quantity": 2 })).unwrap();
        assert_eq!((reserve.order.as_str(), reserve.quantity.get()), ("17", 2));
        for bad in [
            json!({ "order": "17", "sku": "lamp", "quantity": 0 }),
            json!({ "order": "", "sku": "lamp", "quantity": 1 }),
        ] {
            assert!(serde_json::from_value::<Reserve>(bad).is_err());
        }

        let sku = reserve.sku;
        let refusal = Refusal::OutOfStock { sku: sku.clone(), available: 1, wanted: reserve.quantity };
        let refused = Answer::Refused { refusal: refusal.clone() };
        let written = json!({
            "outcome": "refused", "reason": "out_of_stock", "sku": "lamp", "available": 1, "wanted": 2
        });
        assert_eq!(serde_json::to_value(&refused).unwrap(), written);
        assert_eq!(serde_json::from_value::<Answer>(written).unwrap(), refused);
        assert_eq!(serde_json::to_value(Answer::AlreadySold).unwrap(), json!({ "outcome": "already_sold" }));

        let told = Told { order: reserve.order, sku, quantity: reserve.quantity, refusal: None };
        assert_eq!(
            serde_json::to_value(&told).unwrap(),
            json!({ "order": "17", "sku": "lamp", "quantity": 2 })
        );
    }
}
