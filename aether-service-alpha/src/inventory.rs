//! What this service says to whoever keeps the stock, and what it understands of the answers.
//!
//! The saga uses it. It is this service's own reading of the contract and not the inventory's types: the two services
//! share JSON and no code, and what the answers say beyond this is skipped.

use serde::{Deserialize, Serialize};

use crate::order::OrderId;

/// Asked: take units off the shelf.
pub(crate) const RESERVE: &str = "inventory.reserve";
/// Asked: put them back.
pub(crate) const RELEASE: &str = "inventory.release";
/// Asked: sell them.
pub(crate) const COMMIT: &str = "inventory.commit";

#[derive(Debug, Serialize)]
pub(crate) struct Reserve<'a> {
    pub(crate) order: &'a OrderId,
    pub(crate) sku: &'a str,
    pub(crate) quantity: u32,
}

/// An order to be released or sold.
#[derive(Debug, Serialize)]
pub(crate) struct About<'a> {
    pub(crate) order: &'a OrderId,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Answer {
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

    /// The only place where the two contracts meet before they meet on the bus.
    #[test]
    fn both_sides_read_the_contract_alike() {
        let order = OrderId::new("17").unwrap();
        let question = serde_json::to_value(Reserve { order: &order, sku: "lamp", quantity: 2 }).unwrap();
        let heard: theirs::Reserve = serde_json::from_value(question).unwrap();
        assert_eq!((heard.order.as_str(), heard.sku.as_str(), heard.quantity.get()), ("17", "lamp", 2));
        let about: theirs::About =
            serde_json::from_value(serde_json::to_value(About { order: &order }).unwrap()).unwrap();
        assert_eq!(about.order.as_str(), "17");

        let read = |answer: theirs::Answer| {
            serde_json::from_value::<Answer>(serde_json::to_value(answer).unwrap()).unwrap()
        };
        let refusal = Refusal::UnknownSku { sku: Sku::new("moon").unwrap() };
        assert_eq!(
            read(theirs::Answer::Refused { refusal }),
            Answer::Refused { reason: "unknown_sku".into() }
        );
        assert_eq!(read(theirs::Answer::Reserved { available: 3 }), Answer::Reserved);
        assert_eq!(read(theirs::Answer::Released), Answer::Released);
        assert_eq!(read(theirs::Answer::AlreadySold), Answer::AlreadySold);
        assert_eq!(read(theirs::Answer::Sold), Answer::Sold);
        assert_eq!(read(theirs::Answer::NotReserved), Answer::NotReserved);
        assert_eq!(read(theirs::Answer::Restocked { available: 3 }), Answer::Other);
        assert_eq!([RESERVE, RELEASE, COMMIT], [theirs::RESERVE, theirs::RELEASE, theirs::COMMIT]);
    }
}
