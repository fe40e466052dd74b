//! The service around the book: hears charges and refunds, answers, tells what changed.

use std::sync::Arc;

use aether_chassis::{CancellationToken, Json, Service, ServiceError, State, error_chain};
use aether_core::{Aether, Emitter, Wave};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Book, Decline};
use crate::order::OrderId;
use crate::{AlphaError, Chance};

/// Heard: charge a card for an order.
pub(crate) const CHARGE: &str = "payments.charge";
/// Heard: pay back what an order was charged.
pub(crate) const REFUND: &str = "payments.refund";
/// Told: an order was paid.
const CHARGED: &str = "payments.charged";
/// Told: a card was declined.
const DECLINED: &str = "payments.declined";
/// Told: an order was paid back.
const REFUNDED: &str = "payments.refunded";

/// The group in which questions are heard.
const GROUP: &str = "payments";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) order: OrderId,
    pub(crate) card: u64,
    pub(crate) amount_cents: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(crate) order: OrderId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Answer {
    Charged,
    Declined { reason: Decline },
    Refunded { amount_cents: u64 },
}

/// Money that moved, or did not, for whoever listens.
#[derive(Debug, Serialize)]
struct Told<'a> {
    order: &'a OrderId,
    amount_cents: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Decline>,
}

/// The payment desk, ready: every question asked from now on is heard.
#[derive(Debug)]
#[must_use = "questions wait until run() answers them"]
pub struct PaymentDesk {
    service: Service,
}

type Shared = Arc<Mutex<Book>>;

impl PaymentDesk {
    /// Makes the desk and lets it hear its channels. What is asked before [`PaymentDesk::run`] waits in its inbox.
    ///
    /// # Errors
    /// [`AlphaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is heard.
    pub async fn start(aether: &Aether, decline_rate: Chance, seed: u64) -> Result<Self, AlphaError> {
        let service = Service::builder("payments")
            .state(Arc::new(Mutex::new(Book::new(decline_rate, seed))))
            .group(GROUP)
            .on_query(CHARGE, charge)
            .on_query(REFUND, refund)
            .build(aether)
            .await?;
        Ok(Self { service })
    }

    /// Answers until `shutdown` is cancelled or the medium was closed.
    ///
    /// # Errors
    /// None: the book is in memory. The signature leaves room for one that is not.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the desk has ended and its book is gone with it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        self.service.run_until(shutdown).await.map(drop)
    }
}

async fn charge(
    State(book): State<Shared>,
    Json(Charge { order, card, amount_cents }): Json<Charge>,
    emitter: Emitter,
) -> Json<Answer> {
    let (asked_before, declined) = {
        let mut book = book.lock();
        (book.knows(&order), book.charge(&order, card, amount_cents).err())
    };
    let (said, channel, amplitude) = match declined {
        None => (Answer::Charged, CHARGED, 0.6),
        Some(reason) => (Answer::Declined { reason }, DECLINED, 0.7),
    };
    if !asked_before {
        tell(&emitter, channel, amplitude, &Told { order: &order, amount_cents, reason: declined }).await;
    }
    Json(said)
}

async fn refund(
    State(book): State<Shared>,
    Json(Refund { order }): Json<Refund>,
    emitter: Emitter,
) -> Json<Answer> {
    let amount_cents = book.lock().refund(&order);
    if amount_cents > 0 {
        tell(&emitter, REFUNDED, 0.7, &Told { order: &order, amount_cents, reason: None }).await;
    }
    Json(Answer::Refunded { amount_cents })
}

/// The book is right whether or not somebody hears of it.
async fn tell(emitter: &Emitter, channel: &str, amplitude: f32, told: &Told<'_>) {
    let emitted =
        match Wave::builder(channel).key(told.order.as_str()).amplitude(amplitude).json(told).build() {
            Ok(wave) => emitter.emit(wave).await,
            Err(error) => Err(error.into()),
        };
    if let Err(error) = emitted {
        tracing::warn!(error = error_chain(&error), "an event was not emitted");
    }
}
