//! The saga: takes one order from its creation to its end, or back.
//!
//! One task for each order runs it. Forwards: reserve, charge, sell. If a step is refused, or its outcome is not known
//! by the deadline, backwards: release, refund. Each step can be repeated and each undo holds against a step that
//! arrives late, so the saga needs no lock, no transaction and no exactly-once delivery.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aether_chassis::{Asker, AskerError, error_chain};
use aether_core::{EmitError, Kind, PayloadError, Wave, WaveError, WaveId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::inventory;
use crate::order::{IllegalStep, Order, Step};
use crate::payment as desk;
use crate::counters::{OpenOrder, Outcome};

/// What all orders of one service share.
#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) asker: Asker,
    /// How long an order may take forwards, and then once more backwards.
    pub(crate) deadline: Duration,
}

/// One order on its way.
#[derive(Debug)]
pub(crate) struct Saga {
    office: Arc<Office>,
    order: Order,
    /// Asks and tells as the consequence of the wave that led to where the order stands.
    asker: Asker,
    /// Whether money may have been taken.
    maybe_charged: bool,
}

/// Why an order does not go on forwards.
#[derive(Debug, thiserror::Error)]
enum Halt {
    /// The inventory refused it: nothing was done.
    #[error("refused: {reason}")]
    Refused { reason: String },
    /// The money did not come.
    #[error("the payment was declined")]
    Declined,
    /// The reservation is gone.
    #[error("the goods are no longer reserved")]
    NotReserved,
    /// A step's outcome is not known.
    #[error("the outcome is not known")]
    Unknown(#[from] AskerError),
    /// The answer cannot be read.
    #[error("the answer cannot be read")]
    Unreadable(#[from] PayloadError),
    /// The question cannot be written.
    #[error("the question cannot be made")]
    Unwritable(#[from] WaveError),
    /// The other side said something that is no answer to the question.
    #[error("{answer} is no answer on {channel}")]
    Unexpected { channel: &'static str, answer: String },
    /// The saga contradicts itself.
    #[error(transparent)]
    Illegal(#[from] IllegalStep),
}

/// Where an order ended, and why not elsewhere.
#[derive(Debug)]
enum End {
    Completed,
    Refused(String),
    Compensated(String),
}

/// What is told about an order.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    order: &'a Order,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Saga {
    pub(crate) fn new(office: Arc<Office>, order: Order) -> Self {
        Self { asker: office.asker.clone(), office, order, maybe_charged: false }
    }

    /// Runs to the end. An order whose end could not be confirmed stays open.
    pub(crate) async fn run(mut self, open: OpenOrder) {
        self.tell("orders.created", 0.5, None).await;
        let deadline = Instant::now() + self.office.deadline;
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
                self.tell(channel, amplitude, reason).await;
                open.settle(outcome);
            }
            // Not settled: it stays counted as in flight.
            Err(error) => {
                let (order, state) = (&self.order.id, self.order.state());
                tracing::warn!(%order, ?state, error = error_chain(&error), "the outcome of this order is not known");
            }
        }
    }

    async fn forwards(&mut self, deadline: Instant) -> Result<(), Halt> {
        let id = self.order.id.clone();
        let reserve = inventory::Reserve { order: &id, sku: self.order.sku, quantity: self.order.quantity };
        match self.ask(inventory::RESERVE, 0.5, reserve, deadline).await? {
            inventory::Answer::Reserved => self.order.take(Step::Reserve)?,
            inventory::Answer::Refused { reason } => return Err(Halt::Refused { reason }),
            other => return Err(unexpected(inventory::RESERVE, &other)),
        }

        self.maybe_charged = true;
        let charge =
            desk::Charge { order: id.clone(), card: self.order.card, amount_cents: self.order.amount_cents };
        match self.ask(desk::CHARGE, 0.6, charge, deadline).await? {
            desk::Answer::Charged => self.order.take(Step::Pay)?,
            desk::Answer::Declined { .. } => {
                self.maybe_charged = false;
                return Err(Halt::Declined);
            }
            other => return Err(unexpected(desk::CHARGE, &other)),
        }

        match self.ask(inventory::COMMIT, 0.8, inventory::About { order: &id }, deadline).await? {
            inventory::Answer::Sold => self.order.take(Step::Complete)?,
            inventory::Answer::NotReserved => return Err(Halt::NotReserved),
            other => return Err(unexpected(inventory::COMMIT, &other)),
        }
        Ok(())
    }

    fn refuse(&mut self, reason: String) -> Result<End, Halt> {
        self.order.take(Step::Refuse)?;
        Ok(End::Refused(reason))
    }

    /// Undoes what was done or may have been done. The inventory is asked first: it alone knows whether the goods
    /// were sold after all, and then the order is complete.
    async fn backwards(&mut self, halt: Halt) -> Result<End, Halt> {
        let (id, reason) = (self.order.id.clone(), error_chain(&halt));
        tracing::debug!(order = %id, reason, "going back");
        let deadline = Instant::now() + self.office.deadline;
        match self.ask(inventory::RELEASE, 0.9, inventory::About { order: &id }, deadline).await? {
            inventory::Answer::Released => {}
            inventory::Answer::AlreadySold => {
                self.order.take(Step::Complete)?;
                return Ok(End::Completed);
            }
            other => return Err(unexpected(inventory::RELEASE, &other)),
        }
        if self.maybe_charged {
            match self.ask(desk::REFUND, 0.9, desk::Refund { order: id }, deadline).await? {
                desk::Answer::Refunded { .. } => {}
                other => return Err(unexpected(desk::REFUND, &other)),
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

    /// Tells whoever listens where the order stands. The order goes its way whether or not somebody hears of it.
    async fn tell(&mut self, channel: &str, amplitude: f32, reason: Option<String>) {
        match self.emit(channel, amplitude, reason).await {
            Ok(id) => self.asker = self.asker.caused_by(id),
            Err(error) => {
                tracing::warn!(order = %self.order.id, channel, error = error_chain(&error), "an event was not emitted");
            }
        }
    }

    async fn emit(&self, channel: &str, amplitude: f32, reason: Option<String>) -> Result<WaveId, EmitError> {
        let told = Told { order: &self.order, reason };
        let wave = Wave::builder(channel).key(self.order.id.as_str()).amplitude(amplitude).json(&told);
        let emitter = self.asker.emitter();
        Ok(emitter.id_of(&emitter.emit(wave.build()?).await?))
    }
}

fn unexpected(channel: &'static str, answer: &impl fmt::Debug) -> Halt {
    Halt::Unexpected { channel, answer: format!("{answer:?}") }
}
