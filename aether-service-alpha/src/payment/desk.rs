//! The service around the book: hears charges and refunds, answers, tells what changed.

use aether_chassis::{CancellationToken, error_chain};
use aether_core::{Aether, PayloadError, Vibrator, Wave};
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
    Malformed { problem: String },
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
    vibrator: Vibrator,
    book: Book,
}

impl PaymentDesk {
    /// Makes the desk and lets it hear its channels. What is asked before [`PaymentDesk::run`] waits in its inbox.
    ///
    /// # Errors
    /// [`AlphaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is heard.
    pub async fn start(aether: &Aether, decline_rate: Chance, seed: u64) -> Result<Self, AlphaError> {
        let vibrator = Vibrator::create("payments", aether).await?;
        for channel in [CHARGE, REFUND] {
            vibrator.resonate_in_group(channel, GROUP).await?;
        }
        Ok(Self { vibrator, book: Book::new(decline_rate, seed) })
    }

    /// Answers until `shutdown` is cancelled or the medium was closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the desk has ended and its book is gone with it.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while let Some(Some(wave)) = shutdown.run_until_cancelled(self.vibrator.receive()).await {
            let heard = match wave.channel().as_str() {
                CHARGE => self.charge(&wave).await,
                _ => self.refund(&wave).await,
            };
            if let Err(error) = heard {
                let problem = error_chain(&error);
                tracing::warn!(id = %wave.id(), channel = %wave.channel(), problem, "cannot be read");
                answer(&wave, &Answer::Malformed { problem }).await;
            }
        }
    }

    async fn charge(&mut self, wave: &Wave) -> Result<(), PayloadError> {
        let Charge { order, card, amount_cents } = wave.json()?;
        let asked_before = self.book.knows(&order);
        let declined = self.book.charge(&order, card, amount_cents).err();
        let (said, channel, amplitude) = match declined {
            None => (Answer::Charged, CHARGED, 0.6),
            Some(reason) => (Answer::Declined { reason }, DECLINED, 0.7),
        };
        answer(wave, &said).await;
        if !asked_before {
            self.tell(wave, channel, amplitude, &Told { order: &order, amount_cents, reason: declined })
                .await;
        }
        Ok(())
    }

    async fn refund(&mut self, wave: &Wave) -> Result<(), PayloadError> {
        let Refund { order } = wave.json()?;
        let amount_cents = self.book.refund(&order);
        answer(wave, &Answer::Refunded { amount_cents }).await;
        if amount_cents > 0 {
            self.tell(wave, REFUNDED, 0.7, &Told { order: &order, amount_cents, reason: None }).await;
        }
        Ok(())
    }

    async fn tell(&self, cause: &Wave, channel: &str, amplitude: f32, told: &Told<'_>) {
        let wave = Wave::builder(channel)
            .key(told.order.as_str())
            .cause(cause.id())
            .amplitude(amplitude)
            .json(told)
            .build();
        let emitted = match wave {
            Ok(wave) => self.vibrator.emit(wave).await,
            Err(error) => Err(error.into()),
        };
        // The book is right whether or not somebody hears of it.
        if let Err(error) = emitted {
            tracing::warn!(error = error_chain(&error), "an event was not emitted");
        }
    }
}

/// Answers if somebody waits; the same channels can be used without waiting.
async fn answer(wave: &Wave, answer: &Answer) {
    if wave.expects_reply()
        && let Err(error) = wave.reply(answer).await
    {
        // Whoever asked will ask again and be told the same.
        tracing::debug!(id = %wave.id(), error = error_chain(&error), "an answer did not arrive");
    }
}
