//! The saga: takes one order through its steps, or undoes them.
//!
//! One task per order runs it. Forwards: reserve, charge, sell. If a step is refused, or its outcome is unknown at the
//! deadline, backwards: release, refund. Steps can be repeated, and an undo also cancels a step that arrives late. So
//! the saga needs no lock, no transaction and no exactly-once delivery.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{EmitError, Kind, PayloadError, Wave, WaveError, WaveId};
use aether_service::{Asker, AskerError, error_chain};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::counters::{OpenOrder, Outcome};
use crate::order::{IllegalStep, Order, Step};
use crate::{inventory, payment};

/// The state that all sagas of one service share.
#[derive(Debug)]
pub(crate) struct SagaContext {
    pub(crate) asker: Asker,
    /// The time limit of an order forwards, and again backwards.
    pub(crate) deadline: Duration,
}

/// The saga of one order.
#[derive(Debug)]
pub(crate) struct Saga {
    context: Arc<SagaContext>,
    order: Order,
    /// Asks and emits with the cause of the last wave that advanced the order.
    asker: Asker,
    /// Whether the card may have been charged.
    maybe_charged: bool,
}

/// Why an order cannot continue.
#[derive(Debug, thiserror::Error)]
enum Halt {
    /// The inventory refused the order; nothing was done.
    #[error("refused: {reason}")]
    Refused { reason: String },
    /// The card was declined.
    #[error("the payment was declined")]
    Declined,
    /// The reservation is gone.
    #[error("the goods are no longer reserved")]
    NotReserved,
    /// The outcome of a step is unknown.
    #[error("the outcome is unknown")]
    Unknown(#[from] AskerError),
    /// The answer cannot be read.
    #[error("the answer cannot be read")]
    Unreadable(#[from] PayloadError),
    /// The question cannot be written.
    #[error("the question cannot be written")]
    Unwritable(#[from] WaveError),
    /// The answer does not fit the question.
    #[error("unexpected answer {answer} on {channel}")]
    Unexpected { channel: &'static str, answer: String },
    /// The saga took an illegal step.
    #[error(transparent)]
    Illegal(#[from] IllegalStep),
}

/// The end of an order, with its reason.
#[derive(Debug)]
enum End {
    Completed,
    Refused(String),
    Compensated(String),
}

/// The payload of order events.
#[derive(Debug, Serialize)]
struct OrderEvent<'a> {
    #[serde(flatten)]
    order: &'a Order,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Saga {
    pub(crate) fn new(context: Arc<SagaContext>, order: Order) -> Self {
        Self { asker: context.asker.clone(), context, order, maybe_charged: false }
    }

    /// Runs the saga to its end. An order without a confirmed end stays in flight.
    pub(crate) async fn run(mut self, open: OpenOrder) {
        self.announce("orders.created", 0.5, None).await;
        let deadline = Instant::now() + self.context.deadline;
        let ended = match self.forwards(deadline).await {
            Ok(()) => Ok(End::Completed),
            Err(Halt::Refused { reason }) => self.refuse(reason),
            Err(halt) => self.backwards(halt).await,
        };
        match ended {
            Ok(end) => {
                let (channel, amplitude, outcome, reason) = match end {
                    End::Completed => ("orders.completed", 0.8, Outcome::Completed, None),
                    End::Refused(reason) => ("orders.refused", 0.6, Outcome::Refused, Some(reason)),
                    End::Compensated(reason) => {
                        ("orders.compensated", 0.9, Outcome::Compensated, Some(reason))
                    }
                };
                self.announce(channel, amplitude, reason).await;
                open.settle(outcome);
            }
            // Not settled, so it stays counted as in flight.
            Err(error) => {
                let (order, state) = (&self.order.id, self.order.state());
                tracing::warn!(%order, ?state, error = error_chain(&error), "the outcome of this order is unknown");
            }
        }
    }

    async fn forwards(&mut self, deadline: Instant) -> Result<(), Halt> {
        let id = self.order.id.clone();
        let reserve = inventory::Reserve { order: &id, sku: self.order.sku, quantity: self.order.quantity };
        match self.ask(inventory::RESERVE, 0.5, reserve, deadline).await? {
            inventory::InventoryAnswer::Reserved => self.order.take(Step::Reserve)?,
            inventory::InventoryAnswer::Refused { reason } => return Err(Halt::Refused { reason }),
            other => return Err(unexpected(inventory::RESERVE, &other)),
        }

        self.maybe_charged = true;
        let charge = payment::Charge {
            order: id.clone(),
            card: self.order.card,
            amount_cents: self.order.amount_cents,
        };
        match self.ask(payment::CHARGE, 0.6, charge, deadline).await? {
            payment::PaymentAnswer::Charged => self.order.take(Step::Pay)?,
            payment::PaymentAnswer::Declined { .. } => {
                self.maybe_charged = false;
                return Err(Halt::Declined);
            }
            other => return Err(unexpected(payment::CHARGE, &other)),
        }

        match self.ask(inventory::COMMIT, 0.8, inventory::OrderRef { order: &id }, deadline).await? {
            inventory::InventoryAnswer::Sold => self.order.take(Step::Complete)?,
            inventory::InventoryAnswer::NotReserved => return Err(Halt::NotReserved),
            other => return Err(unexpected(inventory::COMMIT, &other)),
        }
        Ok(())
    }

    fn refuse(&mut self, reason: String) -> Result<End, Halt> {
        self.order.take(Step::Refuse)?;
        Ok(End::Refused(reason))
    }

    /// Undoes all steps that were or may have been taken. The inventory comes first: if its answer shows that the goods
    /// were sold after all, the order is complete.
    async fn backwards(&mut self, halt: Halt) -> Result<End, Halt> {
        let (id, reason) = (self.order.id.clone(), error_chain(&halt));
        tracing::debug!(order = %id, reason, "undoing the order");
        let deadline = Instant::now() + self.context.deadline;
        match self.ask(inventory::RELEASE, 0.9, inventory::OrderRef { order: &id }, deadline).await? {
            inventory::InventoryAnswer::Released => {}
            inventory::InventoryAnswer::AlreadySold => {
                self.order.take(Step::Complete)?;
                return Ok(End::Completed);
            }
            other => return Err(unexpected(inventory::RELEASE, &other)),
        }
        if self.maybe_charged {
            match self.ask(payment::REFUND, 0.9, payment::Refund { order: id }, deadline).await? {
                payment::PaymentAnswer::Refunded { .. } => {}
                other => return Err(unexpected(payment::REFUND, &other)),
            }
        }
        self.order.take(Step::Compensate)?;
        Ok(End::Compensated(reason))
    }

    async fn ask<A: DeserializeOwned>(
        &mut self,
        channel: &'static str,
        amplitude: f32,
        payload: impl Serialize,
        deadline: Instant,
    ) -> Result<A, Halt> {
        let question = Wave::builder(channel).kind(Kind::Command).key(self.order.id.as_str());
        let question = question.amplitude(amplitude).json(&payload).build()?;
        let answer = self.asker.ask_until(question, deadline).await?;
        self.asker = self.asker.caused_by(answer.id());
        Ok(answer.json()?)
    }

    /// Emits an event with the state of the order. A failure is only logged, because the order does not depend on
    /// events.
    async fn announce(&mut self, channel: &str, amplitude: f32, reason: Option<String>) {
        match self.emit(channel, amplitude, reason).await {
            Ok(id) => self.asker = self.asker.caused_by(id),
            Err(error) => {
                tracing::warn!(order = %self.order.id, channel, error = error_chain(&error), "an event was not emitted");
            }
        }
    }

    async fn emit(&self, channel: &str, amplitude: f32, reason: Option<String>) -> Result<WaveId, EmitError> {
        let event = OrderEvent { order: &self.order, reason };
        let wave = Wave::builder(channel).key(self.order.id.as_str()).amplitude(amplitude).json(&event);
        let emitter = self.asker.emitter();
        Ok(emitter.id_of(&emitter.emit(wave.build()?).await?))
    }
}

fn unexpected(channel: &'static str, answer: &impl fmt::Debug) -> Halt {
    Halt::Unexpected { channel, answer: format!("{answer:?}") }
}
