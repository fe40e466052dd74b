//! The questions, answers and events of the service, as JSON.
//!
//! They are its public contract: other services write the same JSON and need not link this crate.

use std::num::NonZeroU32;

use aether_service::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::id::{OrderId, Sku};
use crate::stock::Refusal;

/// Question: reserve units for an order. Payload: [`Reserve`].
pub const RESERVE: &str = "inventory.reserve";
/// Question: release the units of an order. Payload: [`OrderRef`].
pub const RELEASE: &str = "inventory.release";
/// Question: sell the units of an order. Payload: [`OrderRef`].
pub const COMMIT: &str = "inventory.commit";
/// Question: add units of an article. Payload: [`Supply`].
pub const RESTOCK: &str = "inventory.restock";

/// Event: units were reserved for an order. Payload: [`StockEvent`].
pub const RESERVED: &str = "inventory.reserved";
/// Event: an order was refused. Payload: [`StockEvent`].
pub const REFUSED: &str = "inventory.refused";
/// Event: the units of an order were released. Payload: [`StockEvent`].
pub const RELEASED: &str = "inventory.released";
/// Event: units of an article were added. Payload: [`Supply`].
pub const RESTOCKED: &str = "inventory.restocked";
/// Event: an article runs low. It is emitted as a claim (phase assert), and with the phase retract when the article no
/// longer runs low. Payload: [`Low`].
pub const LOW: &str = "inventory.low";

/// Event: the heartbeat of the service with the stock level. Payload: [`Level`].
pub const LEVEL: &str = "inventory.level";

/// The payload of [`RESERVE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reserve {
    /// The order.
    pub order: OrderId,
    /// The article.
    pub sku: Sku,
    /// The number of units.
    pub quantity: NonZeroU32,
}

/// The stock level over all articles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Level {
    /// Units that can be reserved.
    pub available: u64,
    /// Units that are reserved and not sold yet.
    pub reserved: u64,
}

/// The order to release or sell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderRef {
    /// The order.
    pub order: OrderId,
}

/// Units of an article to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Supply {
    /// The article.
    pub sku: Sku,
    /// The number of units.
    pub quantity: NonZeroU32,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// The units are reserved for the order.
    Reserved {
        /// Units of the article that can still be reserved.
        available: u64,
    },
    /// The order is refused.
    Refused {
        /// The reason.
        #[serde(flatten)]
        refusal: Refusal,
    },
    /// The order holds no reservation (any more).
    Released,
    /// The order is already sold and cannot be released.
    AlreadySold,
    /// The order is sold.
    Sold,
    /// The order has no reservation to sell.
    NotReserved,
    /// The units were added.
    Restocked {
        /// Units of the article that can now be reserved.
        available: u64,
    },
}

/// The payload of events about an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct StockEvent {
    /// The order.
    pub order: OrderId,
    /// The article.
    pub sku: Sku,
    /// The number of units.
    pub quantity: NonZeroU32,
    /// The reason of a refusal.
    #[serde(flatten)]
    pub refusal: Option<Refusal>,
}

/// The payload of [`LOW`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Low {
    /// The article.
    pub sku: Sku,
    /// Units that can be reserved.
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

        let told = StockEvent { order: reserve.order, sku, quantity: reserve.quantity, refusal: None };
        assert_eq!(
            serde_json::to_value(&told).unwrap(),
            json!({ "order": "17", "sku": "lamp", "quantity": 2 })
        );
    }
}
