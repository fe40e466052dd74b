//! The service around the stock.

use std::io;
use std::time::Duration;

use aether_chassis::CancellationToken;
use aether_core::{Aether, ConnectError, CreateError, JoinError, Vibrator};

use crate::StockSummary;

/// How the service shall be.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct BetaOptions {
    units: u32,
    restock_every: Option<Duration>,
}

impl BetaOptions {
    /// Units of each article unless something else is said.
    pub const DEFAULT_UNITS: u32 = 40;

    /// Units of each article in the beginning, and after each restocking. Default: 40.
    pub fn units(mut self, units: u32) -> Self {
        self.units = units;
        self
    }

    /// How often the stock is filled up; `None` for never, the default.
    pub fn restock_every(mut self, every: Option<Duration>) -> Self {
        self.restock_every = every;
        self
    }
}

impl Default for BetaOptions {
    fn default() -> Self {
        Self { units: Self::DEFAULT_UNITS, restock_every: None }
    }
}

/// Why the service could not start or ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BetaError {
    /// The medium could not be reached.
    #[error("the inventory service has no medium")]
    Connect(#[from] ConnectError),
    /// Its vibrator could not be made.
    #[error("the inventory service could not be made")]
    Create(#[from] CreateError),
    /// It cannot hear its channels.
    #[error("the inventory service cannot hear its channels")]
    Join(#[from] JoinError),
    /// The summary could not be printed.
    #[error("the summary could not be printed")]
    Output(#[source] io::Error),
}

/// The inventory service, ready: every question asked from now on is heard.
#[derive(Debug)]
#[must_use = "questions wait until run() answers them"]
pub struct Beta {
    vibrator: Vibrator,
    options: BetaOptions,
}

impl Beta {
    /// Makes the service and lets it hear its channels. What is asked before [`Beta::run`] waits in its inbox.
    ///
    /// # Errors
    /// [`BetaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is heard.
    pub async fn start(aether: &Aether, options: BetaOptions) -> Result<Self, BetaError> {
        let vibrator = Vibrator::create("beta", aether).await?;
        for channel in ["inventory.reserve", "inventory.release", "inventory.commit", "inventory.restock"] {
            vibrator.resonate_in_group(channel, "inventory").await?;
        }
        Ok(Self { vibrator, options })
    }

    /// Answers until `shutdown` is cancelled or the medium was closed.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended and the stock is gone with it.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<StockSummary, BetaError> {
        let _ = self.options;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                wave = self.vibrator.receive() => if wave.is_none() { break },
            }
        }
        Ok(StockSummary::default())
    }
}
