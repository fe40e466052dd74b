//! Consumers: named readers of a log whose deliveries are acknowledged, and whose position survives a restart.
//!
//! A consumer is fed from the log and never through an inbox, so nothing is shed. It looks ahead in the log, at most
//! [`ConsumerOptions::window`] waves, and delivers the strongest of them first. What it has acknowledged is in a journal of
//! its own, below the folder of the log.

mod attempts;
mod claim;
mod delivery;
mod error;
mod journal;
mod ledger;
mod options;
mod shared;
mod window;

pub use crate::consumer::delivery::Delivery;
pub use crate::consumer::error::{AckError, ConsumeError};
pub use crate::consumer::ledger::ConsumerLedger;
pub use crate::consumer::options::{ConsumerOptions, Start};
pub(crate) use crate::consumer::shared::ConsumerShared;

use std::sync::Arc;

/// A handle of a consumer. Clones, and others of the same name, compete for its waves: each wave goes to one of them.
#[derive(Debug, Clone)]
pub struct Consumer {
    shared: Arc<shared::ConsumerShared>,
}

impl Consumer {
    pub(crate) const fn new(shared: Arc<shared::ConsumerShared>) -> Self {
        Self { shared }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// Waits for the next wave: of those within the window the strongest, and of those the oldest.
    ///
    /// A wave is delivered again until it is acknowledged. After [`ConsumerOptions::max_attempts`] failures it becomes a dead
    /// letter, which [`Log::dead`](crate::Log::dead) lists.
    ///
    /// # Errors
    /// [`ConsumeError`] if the log cannot be read, or a dead letter cannot be written. Calling it again goes on.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave is taken.
    pub async fn receive(&self) -> Result<Delivery, ConsumeError> {
        self.shared.receive().await
    }

    /// Handles waves one after the other, without end: a wave whose handler returns Ok is acknowledged, another one is
    /// delivered again. Run it on several clones to handle several at once.
    ///
    /// # Errors
    /// [`ConsumeError`], as [`Consumer::receive`], or because an acknowledgement was not written.
    ///
    /// # Cancel safety
    /// Cancelled in the middle of a handler, its wave is delivered again, and this counts as a failed attempt.
    pub async fn handle<E: std::fmt::Display>(
        &self,
        mut handler: impl AsyncFnMut(&Delivery) -> Result<(), E>,
    ) -> Result<std::convert::Infallible, ConsumeError> {
        loop {
            let delivery = self.receive().await?;
            match handler(&delivery).await {
                Ok(()) => delivery.ack().await?,
                Err(error) => delivery.nack(&error.to_string()),
            }
        }
    }

    /// Its account: `stored = acknowledged + in_flight + waiting + dead + expired`.
    #[must_use]
    pub fn ledger(&self) -> ConsumerLedger {
        self.shared.ledger()
    }
}
