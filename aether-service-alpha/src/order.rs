//! An order and its states.
//!
//! Pure: this file defines the state transitions, the saga performs them.

use std::fmt;
use std::sync::Arc;

use aether_core::wave::MAX_KEY_BYTES;
use aether_service::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

/// The id of an order. Cloning it is cheap (reference counted).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct OrderId(Arc<str>);

/// A text that is not a valid order id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an order id of {bytes} bytes is not allowed: use 1 to {MAX_KEY_BYTES}")]
pub struct OrderIdError {
    bytes: usize,
}

impl OrderId {
    /// Makes an order id of 1 to 255 bytes. It is also the coherence key of all waves about the order.
    ///
    /// # Errors
    /// [`OrderIdError`] for an empty text and one that is too long.
    pub fn new(text: impl AsRef<str>) -> Result<Self, OrderIdError> {
        let text = text.as_ref();
        match text.len() {
            1..=MAX_KEY_BYTES => Ok(Self(text.into())),
            bytes => Err(OrderIdError { bytes }),
        }
    }

    /// The id of an order by its number within one service instance.
    pub(crate) fn numbered(instance: u64, number: u64) -> Self {
        Self(format!("{instance:x}-{number}").into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for OrderId {
    type Error = OrderIdError;
    fn try_from(text: String) -> Result<Self, OrderIdError> {
        Self::new(text)
    }
}

impl From<OrderId> for String {
    fn from(id: OrderId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The state of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Created; nothing was done yet.
    Created,
    /// The goods are reserved.
    Reserved,
    /// The goods are reserved and paid.
    Paid,
    /// Final: the goods are sold.
    Completed,
    /// Final: the goods were not available.
    Refused,
    /// Final: all earlier steps are undone.
    Compensated,
}

/// A step of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The goods were reserved.
    Reserve,
    /// The card was charged.
    Pay,
    /// The goods were sold.
    Complete,
    /// The goods were refused.
    Refuse,
    /// All earlier steps were undone.
    Compensate,
}

/// A step that the state of an order does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {state:?} cannot take the step {step:?}")]
pub struct IllegalStep {
    /// The state of the order.
    pub state: State,
    /// The refused step.
    pub step: Step,
}

impl State {
    /// The state after a step.
    ///
    /// # Errors
    /// [`IllegalStep`].
    pub const fn after(self, step: Step) -> Result<Self, IllegalStep> {
        Ok(match (self, step) {
            (Self::Created, Step::Reserve) => Self::Reserved,
            (Self::Created, Step::Refuse) => Self::Refused,
            (Self::Reserved, Step::Pay) => Self::Paid,
            (Self::Paid, Step::Complete) => Self::Completed,
            (Self::Created | Self::Reserved | Self::Paid, Step::Compensate) => Self::Compensated,
            (state, step) => return Err(IllegalStep { state, step }),
        })
    }

    /// Whether the state is final.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Refused | Self::Compensated)
    }
}

/// An order: what to buy, and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Order {
    /// The order id.
    #[serde(rename = "order")]
    pub id: OrderId,
    /// The article.
    pub sku: &'static str,
    /// The number of units.
    pub quantity: u32,
    /// The total price in cents.
    pub amount_cents: u64,
    /// The customer's card, for the payment service only.
    #[serde(skip)]
    pub card: u64,
    state: State,
}

impl Order {
    pub(crate) const fn new(
        id: OrderId,
        sku: &'static str,
        quantity: u32,
        amount_cents: u64,
        card: u64,
    ) -> Self {
        Self { id, sku, quantity, amount_cents, card, state: State::Created }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Takes a step.
    ///
    /// # Errors
    /// [`IllegalStep`]. The order keeps its state.
    pub fn take(&mut self, step: Step) -> Result<(), IllegalStep> {
        self.state = self.state.after(step)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] =
        [State::Created, State::Reserved, State::Paid, State::Completed, State::Refused, State::Compensated];
    const STEPS: [Step; 5] = [Step::Reserve, Step::Pay, Step::Complete, Step::Refuse, Step::Compensate];

    #[test]
    fn only_the_defined_steps_are_allowed() {
        let mut legal = Vec::new();
        for state in STATES {
            for step in STEPS {
                match state.after(step) {
                    Ok(next) => legal.push((state, step, next)),
                    Err(error) => assert_eq!(error, IllegalStep { state, step }),
                }
            }
        }
        assert_eq!(
            legal,
            [
                (State::Created, Step::Reserve, State::Reserved),
                (State::Created, Step::Refuse, State::Refused),
                (State::Created, Step::Compensate, State::Compensated),
                (State::Reserved, Step::Pay, State::Paid),
                (State::Reserved, Step::Compensate, State::Compensated),
                (State::Paid, Step::Complete, State::Completed),
                (State::Paid, Step::Compensate, State::Compensated),
            ]
        );
    }

    #[test]
    fn final_states_have_no_steps_and_all_others_can_be_undone() {
        for state in STATES {
            let ways = STEPS.iter().filter(|step| state.after(**step).is_ok()).count();
            assert_eq!(state.is_final(), ways == 0, "{state:?}");
            assert_eq!(state.is_final(), state.after(Step::Compensate).is_err(), "{state:?}");
        }
    }

    #[test]
    fn a_refused_step_keeps_the_state() {
        let mut order = Order::new(OrderId::numbered(0xa, 7), "lamp", 2, 5_000, 1);
        assert_eq!(order.take(Step::Pay), Err(IllegalStep { state: State::Created, step: Step::Pay }));
        assert_eq!(order.state(), State::Created);
        order.take(Step::Reserve).unwrap();
        assert_eq!(order.state(), State::Reserved);
        let written = serde_json::json!({
            "order": "a-7", "sku": "lamp", "quantity": 2, "amount_cents": 5_000, "state": "reserved"
        });
        assert_eq!(serde_json::to_value(&order).unwrap(), written);
    }

    #[test]
    fn an_order_id_fits_into_a_coherence_key() {
        assert!(OrderId::new("").is_err() && OrderId::new("x".repeat(MAX_KEY_BYTES + 1)).is_err());
        assert!(OrderId::new("x".repeat(MAX_KEY_BYTES)).is_ok());
        assert!(serde_json::from_str::<OrderId>("\"\"").is_err());
    }
}
