//! Consumers: named readers of a log whose deliveries are acknowledged, and whose position survives a restart.
//!
//! A consumer is fed from the log and never through an inbox, so nothing is shed. It looks ahead in the log, at most
//! [`ConsumerOptions::window`] waves, and delivers the strongest of them first. Its acknowledgements are in a journal
//! of its own below the folder of the log, or at the server.

mod attempts;
mod backlog;
mod claim;
mod delivery;
mod error;
mod journal;
mod ledger;
mod limit;
mod options;
mod pace;
mod positions;
mod queue;
mod quotas;
mod ready;
mod shared;
mod shares;
mod standing;
#[cfg(feature = "jetstream")]
mod stream;
mod tenant;
mod turns;
mod window;

pub(crate) use crate::consumer::attempts::FILE as ATTEMPTS;
pub(crate) use crate::consumer::backlog::Backlog;
pub use crate::consumer::delivery::Delivery;
pub use crate::consumer::error::{AckError, ConsumeError, NotAcknowledged, WeightError};
pub use crate::consumer::ledger::ConsumerLedger;
pub use crate::consumer::limit::Limit;
pub use crate::consumer::options::{ConsumerOptions, Start};
pub use crate::consumer::queue::{JobState, QueueStanding, QueuedJob};
pub(crate) use crate::consumer::shared::ConsumerShared;
pub use crate::consumer::standing::{ConsumerStanding, Lag};
pub(crate) use crate::consumer::standing::{Looking, time};
#[cfg(feature = "jetstream")]
pub(crate) use crate::consumer::stream::StreamConsumer;
pub use crate::consumer::tenant::Tenant;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The first and the longest pause of [`Consumer::handle`] while acknowledgements cannot be written.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A handle of a consumer. Clones, and others of the same name, compete for its waves: each wave goes to one of them.
#[derive(Debug, Clone)]
pub struct Consumer {
    source: Source,
}

/// Where the waves come from.
#[derive(Debug, Clone)]
enum Source {
    Folder(Arc<shared::ConsumerShared>),
    #[cfg(feature = "jetstream")]
    Stream(Arc<stream::StreamConsumer>),
}

impl Consumer {
    pub(crate) const fn new(shared: Arc<shared::ConsumerShared>) -> Self {
        Self { source: Source::Folder(shared) }
    }

    #[cfg(feature = "jetstream")]
    pub(crate) const fn of_stream(consumer: Arc<stream::StreamConsumer>) -> Self {
        Self { source: Source::Stream(consumer) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.source {
            Source::Folder(shared) => shared.name(),
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.name(),
        }
    }

    /// Makes sure that the consumer can deliver. In JetStream this makes it at the server, or checks the one that exists;
    /// [`Consumer::receive`] does so as well. In a folder it is ready already.
    ///
    /// # Errors
    /// [`ConsumeError`]: the name belongs to a consumer with another pattern or other settings, or the server refuses or
    /// does not answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the consumer may have been made.
    pub async fn ready(&self) -> Result<(), ConsumeError> {
        match &self.source {
            Source::Folder(_) => Ok(()),
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.ready().await,
        }
    }

    /// Changes the weight of a tenant for a consumer that is [fair](ConsumerOptions::fair_by), from its next delivery but
    /// one on: of the deliveries it gets this part of the weights of all tenants of which waves wait. Default: 1. It holds
    /// for all handles of the name in this process, and is not stored.
    ///
    /// # Errors
    /// [`WeightError`]: the consumer is not fair, or 65,536 tenants have other weights than 1.
    pub fn set_weight(&self, tenant: &str, weight: NonZeroU32) -> Result<(), WeightError> {
        match &self.source {
            Source::Folder(shared) => shared.set_weight(tenant, weight),
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.set_weight(tenant, weight),
        }
    }

    /// Waits for the next wave: of those within the window the strongest, and of those the oldest.
    ///
    /// A wave is delivered again until it is acknowledged. After [`ConsumerOptions::max_attempts`] failures it becomes
    /// a dead letter, which [`Log::dead`](crate::Log::dead) lists.
    ///
    /// # Errors
    /// [`ConsumeError`] if the log cannot be read, or a dead letter cannot be written. Calling it again goes on.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no wave is taken.
    pub async fn receive(&self) -> Result<Delivery, ConsumeError> {
        match &self.source {
            Source::Folder(shared) => shared.receive().await,
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.receive().await,
        }
    }

    /// Handles waves one after the other, without end: a wave whose handler returns Ok is acknowledged, another one is
    /// delivered again. Run it on several clones to handle several at once.
    ///
    /// It acknowledges as [`Delivery::ack_soon`]. Handlers that need each acknowledgement confirmed call [`Delivery::ack`].
    ///
    /// If an acknowledgement cannot be written now, for example because the disk is full, the wave is delivered again
    /// after a pause, and this goes on.
    ///
    /// # Errors
    /// [`ConsumeError`], as [`Consumer::receive`], or because acknowledgements cannot be written any more.
    ///
    /// # Cancel safety
    /// Cancelled in the middle of a handler, its wave is delivered again, and this counts as a failed attempt.
    pub async fn handle<E: std::fmt::Display>(
        &self,
        mut handler: impl AsyncFnMut(&Delivery) -> Result<(), E>,
    ) -> Result<std::convert::Infallible, ConsumeError> {
        let mut pause = PAUSES.0;
        loop {
            let delivery = self.receive().await?;
            if let Err(error) = handler(&delivery).await {
                delivery.nack(&error.to_string());
                continue;
            }
            match delivery.ack_soon().await {
                Ok(()) => pause = PAUSES.0,
                Err(error) if error.source.is_transient() => {
                    tracing::warn!(consumer = self.name(), %error, reason = %error.source, "the consumer pauses");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes no more waves with any handle of this name in this process, until [`resume`](Self::resume). Deliveries in
    /// flight go on. In JetStream the waves that the process holds ahead stay with it. It does not survive the process.
    pub fn pause(&self) {
        self.set_paused(true);
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.set_paused(false);
    }

    fn set_paused(&self, is_paused: bool) {
        match &self.source {
            Source::Folder(shared) => shared.pause(is_paused),
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.pause(is_paused),
        }
    }

    /// The waves that wait, run and pause, as this process sees them. In JetStream it makes a request.
    ///
    /// # Errors
    /// [`ConsumeError`] if the server does not answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn queue(&self) -> Result<QueueStanding, ConsumeError> {
        match &self.source {
            Source::Folder(shared) => Ok(shared.queue()),
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.queue().await,
        }
    }

    /// At most `most` waves that are in flight in this process or pause after a failure, behind this position.
    ///
    /// # Errors
    /// [`ConsumeError`] if the log cannot be read.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn jobs(&self, after: u64, most: usize) -> Result<Vec<QueuedJob>, ConsumeError> {
        match &self.source {
            Source::Folder(shared) => shared.jobs(after, most).await,
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => Ok(consumer.jobs(after, most)),
        }
    }

    /// Makes the wave at this position due now if it pauses after a failure, or all such waves. Returns how many did. In
    /// JetStream those that failed in this process.
    ///
    /// # Cancel safety
    /// Cancelled before completion, some may be due and others not.
    pub async fn retry(&self, position: Option<u64>) -> u64 {
        match &self.source {
            Source::Folder(shared) => shared.retry(position),
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.retry(position).await,
        }
    }

    /// Gives up the wave at this position, which is not handled any more and becomes a dead letter. False if it neither
    /// waits within the window nor pauses here: it may be in flight.
    ///
    /// # Errors
    /// [`ConsumeError`] if the letter cannot be written. The wave stays then.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the wave stays or is a letter.
    pub async fn cancel(&self, position: u64) -> Result<bool, ConsumeError> {
        match &self.source {
            Source::Folder(shared) => shared.cancel(position).await,
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.cancel(position).await,
        }
    }

    /// Ends this handle. The last one of a name in a process gives the waves that it holds back to the server, and
    /// [by key](ConsumerOptions::by_key) its turn. It waits until that is done and the deliveries in flight have ended.
    /// Dropped instead, it does so behind the scenes, and if the process ends meanwhile, the next one waits for
    /// [`ack_wait`](crate::JetStreamOptions::ack_wait). In a folder nothing is to be given back.
    ///
    /// # Cancel safety
    /// Cancelled before completion, this goes on behind the scenes.
    pub async fn close(self) {
        match self.source {
            Source::Folder(_) => {}
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => {
                if let Some(consumer) = Arc::into_inner(consumer) {
                    consumer.close().await;
                }
            }
        }
    }

    /// Its account: `stored = acknowledged + in_flight + waiting + dead + expired`. In JetStream it is the account that
    /// [`Consumer::account`] returned last.
    #[must_use]
    pub fn ledger(&self) -> ConsumerLedger {
        match &self.source {
            Source::Folder(shared) => shared.ledger(),
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.ledger(),
        }
    }

    /// Its account, from where the waves are kept. In JetStream the server counts the waves of the whole stream, those
    /// before the window as well; waves in flight in another process count as waiting, and waves that the stream has
    /// dropped are in none of the numbers. A dead letter that was dropped or replayed counts as acknowledged. While waves
    /// arrive or are handled, the numbers may be of different moments.
    ///
    /// # Errors
    /// [`ConsumeError`] if the server does not answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing has changed.
    pub async fn account(&self) -> Result<ConsumerLedger, ConsumeError> {
        match &self.source {
            Source::Folder(shared) => Ok(shared.ledger()),
            #[cfg(feature = "jetstream")]
            Source::Stream(consumer) => consumer.account().await,
        }
    }
}
