//! The order service: creates orders at a rate, runs a saga for each in a task, and counts the outcomes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, ConnectError, CreateError, Vibrator};
use aether_metrics::{Metrics, ServeError};
use aether_service::config::ConfigError;
use aether_service::{Asker, AskerOptions, CancellationToken, LostWaves, Resend, RetryBudget, ServiceError};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{Instrument as _, info_span};

use crate::customers::Customers;
use crate::saga::{Saga, SagaContext};
use crate::{AlphaOptions, OrderCounters, OrderSummary, PaymentService};

/// Why the order service failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlphaError {
    /// The medium could not be reached.
    #[error("the order service cannot use its medium")]
    Connect(#[from] ConnectError),
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A vibrator could not be created.
    #[error("the order service could not be created")]
    Create(#[from] CreateError),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ServeError),
    /// The payment service failed.
    #[error("the payment service failed")]
    Payments(#[from] ServiceError),
    /// The payment service or a saga panicked.
    #[error("a task of the order service panicked")]
    Broken(#[from] tokio::task::JoinError),
    /// The summary could not be printed.
    #[error("the summary could not be printed")]
    Output(#[source] io::Error),
    /// The server did not confirm every emitted wave.
    #[error(transparent)]
    Lost(#[from] LostWaves),
}

/// The order service, ready to run. Its payment service is already subscribed.
#[derive(Debug)]
#[must_use = "the service creates no orders before run()"]
pub struct Alpha {
    vibrator: Vibrator,
    payments: PaymentService,
    options: AlphaOptions,
    counters: Arc<OrderCounters>,
}

impl Alpha {
    /// Creates the service and its payment service.
    ///
    /// # Errors
    /// [`AlphaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no service is left.
    pub async fn start(aether: &Aether, options: AlphaOptions) -> Result<Self, AlphaError> {
        let payments = PaymentService::start_configured(
            aether,
            options.decline_rate,
            options.seed,
            &options.configuration,
        )
        .await?;
        let vibrator = Vibrator::create("alpha", aether).await?;
        Ok(Self { vibrator, payments, options, counters: Arc::default() })
    }

    /// The metrics of the service: its bus and its payment service.
    #[must_use]
    pub fn metrics(&self, aether: &Aether) -> Metrics {
        self.add_metrics(Metrics::of(aether))
    }

    /// Adds its payment service to the metrics of a program that runs other services on the same bus.
    #[must_use]
    pub fn add_metrics(&self, metrics: Metrics) -> Metrics {
        metrics.service(self.payments.service())
    }

    /// The live order counters. They can be read at any time, also after the service has ended.
    #[must_use]
    pub fn counters(&self) -> Arc<OrderCounters> {
        Arc::clone(&self.counters)
    }

    /// Creates orders and runs their sagas until `shutdown` is cancelled, all orders have ended or the medium is
    /// closed. After `shutdown` it creates no more orders, and those in flight get a grace period.
    ///
    /// # Errors
    /// [`AlphaError::Broken`] if a task panicked.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended; orders in flight are not undone.
    pub async fn run(self, shutdown: CancellationToken) -> Result<OrderSummary, AlphaError> {
        let Self { vibrator, payments, options, counters } = self;
        let mut customers = Customers::new(vibrator.source().instance(), options.seed);
        let context = Arc::new(SagaContext {
            asker: Asker::new(vibrator.emitter(), asking(options.patience)),
            deadline: options.deadline,
        });
        // The payment service must outlive the orders, so it has its own token. Dropping a set cancels its tasks.
        let (payments_shutdown, mut payment_tasks) = (CancellationToken::new(), JoinSet::new());
        payment_tasks.spawn(payments.run(payments_shutdown.clone()));
        let mut orders = JoinSet::new();
        let mut next_order = every(options.rate.period());

        loop {
            let wanted = options.orders.is_none_or(|most| customers.made() < most);
            if !wanted && orders.is_empty() {
                break;
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                // The payment service ends by itself only when the medium is closed.
                Some(ended) = payment_tasks.join_next() => {
                    ended??;
                    break;
                }
                Some(ended) = orders.join_next() => ended?,
                _ = next_order.tick(), if wanted && orders.len() < options.concurrency.get() => {
                    let order = customers.next_order();
                    // All that follows from the order is one trace.
                    let span = info_span!("order", order = %order.id);
                    let saga = Saga::new(Arc::clone(&context), order);
                    orders.spawn(saga.run(counters.open()).instrument(span));
                }
            }
        }
        settle(&mut orders, options.grace).await?;
        payments_shutdown.cancel();
        while let Some(ended) = payment_tasks.join_next().await {
            ended??;
        }
        Ok(counters.summary())
    }
}

/// The asker options of sagas. A saga asks few questions and needs each answer, so the retry budget is 100 % instead of
/// the default 10 %.
fn asking(patience: Duration) -> AskerOptions {
    let resend = Resend::default().most(32).budget(RetryBudget::new(100, 10));
    AskerOptions::default().patience(patience).resend(resend)
}

/// Waits for the orders in flight for the grace period, then cancels their tasks.
async fn settle(orders: &mut JoinSet<()>, grace: Duration) -> Result<(), tokio::task::JoinError> {
    let all_ended = async {
        while let Some(ended) = orders.join_next().await {
            ended?;
        }
        Ok(())
    };
    let ended = timeout(grace, all_ended).await;
    orders.shutdown().await;
    ended.unwrap_or(Ok(()))
}

/// An interval that does not catch up on missed ticks.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}
