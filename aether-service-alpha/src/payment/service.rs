//! The service around the ledger: answers charges and refunds, and emits an event for each change.

use std::sync::Arc;

use aether_core::{Aether, Emitter, Wave};
use aether_service::schemars::{self, JsonSchema};
use aether_service::{CancellationToken, Configuration, Service, ServiceError, State, Typed, error_chain};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{ChargeLedger, Decline};
use crate::order::OrderId;
use crate::{AlphaError, Chance};

/// Question: charge a card for an order.
pub(crate) const CHARGE: &str = "payments.charge";
/// Question: refund an order.
pub(crate) const REFUND: &str = "payments.refund";
/// Event: an order was paid.
const CHARGED: &str = "payments.charged";
/// Event: a card was declined.
const DECLINED: &str = "payments.declined";
/// Event: an order was refunded.
const REFUNDED: &str = "payments.refunded";

/// The group that shares the questions.
const GROUP: &str = "payments";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Charge {
    pub(crate) order: OrderId,
    pub(crate) card: u64,
    pub(crate) amount_cents: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Refund {
    pub(crate) order: OrderId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum PaymentAnswer {
    Charged,
    Declined { reason: Decline },
    Refunded { amount_cents: u64 },
}

/// The payload of payment events.
#[derive(Debug, Serialize, JsonSchema)]
struct PaymentEvent<'a> {
    order: &'a OrderId,
    amount_cents: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Decline>,
}

/// The payment service, ready to run. It is already subscribed.
#[derive(Debug)]
#[must_use = "questions wait until run() answers them"]
pub struct PaymentService {
    service: Service,
}

type Shared = Arc<Mutex<ChargeLedger>>;

impl PaymentService {
    /// Creates the service and subscribes to its channels. Questions asked before [`PaymentService::run`] wait in its
    /// inbox.
    ///
    /// # Errors
    /// [`AlphaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no subscription remains.
    pub async fn start(aether: &Aether, decline_rate: Chance, seed: u64) -> Result<Self, AlphaError> {
        Self::start_configured(aether, decline_rate, seed, &Configuration::default()).await
    }

    /// Like [`PaymentService::start`], with an inbox and handlers as a configuration has them.
    ///
    /// # Errors
    /// [`AlphaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no subscription remains.
    pub async fn start_configured(
        aether: &Aether,
        decline_rate: Chance,
        seed: u64,
        configuration: &Configuration,
    ) -> Result<Self, AlphaError> {
        let service = Service::builder("payments")
            .configured(configuration)
            .state(Arc::new(Mutex::new(ChargeLedger::new(decline_rate, seed))))
            .group(GROUP)
            .on_query(CHARGE, charge)
            .on_query(REFUND, refund)
            .emits::<PaymentEvent<'static>>(CHARGED)
            .emits::<PaymentEvent<'static>>(DECLINED)
            .emits::<PaymentEvent<'static>>(REFUNDED)
            .describe(env!("CARGO_PKG_VERSION"), "Charges and refunds cards, once for each order")
            .build(aether)
            .await?;
        Ok(Self { service })
    }

    /// The handlers.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Answers until `shutdown` is cancelled or the medium is closed.
    ///
    /// # Errors
    /// None: the ledger is in memory. The signature leaves room for a persistent one.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended and its ledger is lost.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        self.service.run_until(shutdown).await.map(drop)
    }
}

async fn charge(
    State(ledger): State<Shared>,
    Typed(Charge { order, card, amount_cents }): Typed<Charge>,
    emitter: Emitter,
) -> Typed<PaymentAnswer> {
    let (asked_before, declined) = {
        let mut ledger = ledger.lock();
        (ledger.knows(&order), ledger.charge(&order, card, amount_cents).err())
    };
    let (answer, channel, amplitude) = match declined {
        None => (PaymentAnswer::Charged, CHARGED, 0.6),
        Some(reason) => (PaymentAnswer::Declined { reason }, DECLINED, 0.7),
    };
    if !asked_before {
        announce(
            &emitter,
            channel,
            amplitude,
            &PaymentEvent { order: &order, amount_cents, reason: declined },
        )
        .await;
    }
    Typed(answer)
}

async fn refund(
    State(ledger): State<Shared>,
    Typed(Refund { order }): Typed<Refund>,
    emitter: Emitter,
) -> Typed<PaymentAnswer> {
    let amount_cents = ledger.lock().refund(&order);
    if amount_cents > 0 {
        announce(&emitter, REFUNDED, 0.7, &PaymentEvent { order: &order, amount_cents, reason: None }).await;
    }
    Typed(PaymentAnswer::Refunded { amount_cents })
}

/// Emits an event. A failure is only logged, because the ledger does not depend on events.
async fn announce(emitter: &Emitter, channel: &str, amplitude: f32, event: &PaymentEvent<'_>) {
    let emitted =
        match Wave::builder(channel).key(event.order.as_str()).amplitude(amplitude).json(event).build() {
            Ok(wave) => emitter.emit(wave).await,
            Err(error) => Err(error.into()),
        };
    if let Err(error) = emitted {
        tracing::warn!(error = error_chain(&error), "an event was not emitted");
    }
}
