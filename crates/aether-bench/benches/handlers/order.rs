//! The message of the benchmark: an order of about 100 bytes of JSON, or as many bytes that nobody reads.

use serde::{Deserialize, Serialize};

/// The channel of the orders.
pub(crate) const ORDERS: &str = "bench.orders";
/// The channel of the questions.
pub(crate) const QUESTIONS: &str = "bench.questions";

/// A message that is not parsed.
pub(crate) static RAW: [u8; 100] = [b'x'; 100];

/// Two texts and two numbers: 100 bytes of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ruststream::Outgoing)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) customer: String,
    pub(crate) sku: String,
    pub(crate) quantity: u32,
}

impl Order {
    pub(crate) fn example() -> Self {
        Self {
            id: 4_711_000_017,
            customer: "a customer of the shop".to_owned(),
            sku: "lamp-brass-3-arms".to_owned(),
            quantity: 12,
        }
    }
}

/// The answer to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ruststream::Outgoing)]
pub(crate) struct Price {
    pub(crate) cents: u64,
}
