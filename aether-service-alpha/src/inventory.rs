//! The messages to and from the inventory service, as this service reads them.
//!
//! The saga uses them. These are this service's own types, not the inventory's: the two services share JSON but
//! no code. Unknown fields of the answers are ignored.

use serde::{Deserialize, Serialize};

use crate::order::OrderId;

/// Question: reserve units.
pub(crate) const RESERVE: &str = "inventory.reserve";
/// Question: release the reservation.
pub(crate) const RELEASE: &str = "inventory.release";
/// Question: sell the reserved units.
pub(crate) const COMMIT: &str = "inventory.commit";

#[derive(Debug, Serialize)]
pub(crate) struct Reserve<'a> {
    pub(crate) order: &'a OrderId,
    pub(crate) sku: &'a str,
    pub(crate) quantity: u32,
}

/// The order to release or sell.
#[derive(Debug, Serialize)]
pub(crate) struct OrderRef<'a> {
    pub(crate) order: &'a OrderId,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum InventoryAnswer {
    Reserved,
    Refused {
        reason: String,
    },
    Released,
    AlreadySold,
    Sold,
    NotReserved,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_service_beta::messages as theirs;
    use aether_service_beta::{Refusal, Sku};

    /// The only place that compares the two readings of the contract, besides the bus.
    #[test]
    fn both_sides_read_the_contract_in_the_same_way() {
        let order = OrderId::new("17").unwrap();
        let question = serde_json::to_value(Reserve { order: &order, sku: "lamp", quantity: 2 }).unwrap();
        let heard: theirs::Reserve = serde_json::from_value(question).unwrap();
        assert_eq!((heard.order.as_str(), heard.sku.as_str(), heard.quantity.get()), ("17", "lamp", 2));
        let about: theirs::OrderRef =
            serde_json::from_value(serde_json::to_value(OrderRef { order: &order }).unwrap()).unwrap();
        assert_eq!(about.order.as_str(), "17");

        let read = |answer: theirs::Answer| {
            serde_json::from_value::<InventoryAnswer>(serde_json::to_value(answer).unwrap()).unwrap()
        };
        let refusal = Refusal::UnknownSku { sku: Sku::new("moon").unwrap() };
        assert_eq!(
            read(theirs::Answer::Refused { refusal }),
            InventoryAnswer::Refused { reason: "unknown_sku".into() }
        );
        assert_eq!(read(theirs::Answer::Reserved { available: 3 }), InventoryAnswer::Reserved);
        assert_eq!(read(theirs::Answer::Released), InventoryAnswer::Released);
        assert_eq!(read(theirs::Answer::AlreadySold), InventoryAnswer::AlreadySold);
        assert_eq!(read(theirs::Answer::Sold), InventoryAnswer::Sold);
        assert_eq!(read(theirs::Answer::NotReserved), InventoryAnswer::NotReserved);
        assert_eq!(read(theirs::Answer::Restocked { available: 3 }), InventoryAnswer::Other);
        assert_eq!([RESERVE, RELEASE, COMMIT], [theirs::RESERVE, theirs::RELEASE, theirs::COMMIT]);
    }
}
