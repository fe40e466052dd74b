//! The service around the saga: makes orders at a rate, runs each in a task, counts how they end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aether_chassis::{Asker, AskerOptions, CancellationToken, LostWaves, Resend, RetryBudget, ServiceError};
use aether_core::{Aether, ConnectError, CreateError, Vibrator};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::customers::Customers;
use crate::saga::{Office, Saga};
use crate::{AlphaOptions, OrderSummary, PaymentDesk, OrderCounters};

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
    /// The payment desk does not run.
    #[error("the payment desk does not run")]
    Desk(#[from] ServiceError),
    /// The payment desk or an order panicked.
    #[error("the order service broke down")]
    Broken(#[from] tokio::task::JoinError),
    /// The summary could not be printed.
    #[error("the summary could not be printed")]
    Output(#[source] io::Error),
    /// Not everything that was emitted is known to have reached the server.
    #[error(transparent)]
    Lost(#[from] LostWaves),
}

/// The order service, ready to take orders; its payment desk hears every question asked from now on.
#[derive(Debug)]
#[must_use = "no order is made before run()"]
pub struct Alpha {
    vibrator: Vibrator,
    payments: PaymentDesk,
    options: AlphaOptions,
    counters: Arc<OrderCounters>,
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
        let payments = PaymentDesk::start(aether, options.decline_rate, options.seed).await?;
        let vibrator = Vibrator::create("alpha", aether).await?;
        Ok(Self { vibrator, payments, options, counters: Arc::default() })
    }

    /// The count of orders, which can be read at any time, also after the service has ended.
    #[must_use]
    pub fn counters(&self) -> Arc<OrderCounters> {
        Arc::clone(&self.counters)
    }

    /// Makes orders and takes each to its end, until `shutdown` is cancelled, all orders have ended or the medium
    /// was closed. On shutdown no more orders are made, and those in flight get a moment to settle.
    ///
    /// # Errors
    /// [`AlphaError::Broken`] if a task panicked.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended; orders in flight are not undone.
    pub async fn run(self, shutdown: CancellationToken) -> Result<OrderSummary, AlphaError> {
        let Self { vibrator, payments, options, counters } = self;
        let mut customers = Customers::new(vibrator.source().instance(), options.seed);
        let office = Arc::new(Office {
            asker: Asker::new(vibrator.emitter(), asking(options.patience)),
            deadline: options.deadline,
        });
        // The desk outlives the orders: its own token. Both sets end their tasks when they are dropped.
        let (desk_shutdown, mut desk) = (CancellationToken::new(), JoinSet::new());
        desk.spawn(payments.run(desk_shutdown.clone()));
        let mut orders = JoinSet::new();
        let mut next_order = every(options.rate.period());

        loop {
            let wanted = options.orders.is_none_or(|most| customers.made() < most);
            if !wanted && orders.is_empty() {
                break;
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                // The desk ends by itself only when the medium was closed.
                Some(ended) = desk.join_next() => {
                    ended??;
                    break;
                }
                Some(ended) = orders.join_next() => ended?,
                _ = next_order.tick(), if wanted && orders.len() < options.concurrency.get() => {
                    let saga = Saga::new(Arc::clone(&office), customers.next_order());
                    orders.spawn(saga.run(counters.open()));
                }
            }
        }
        settle(&mut orders, options.grace).await?;
        desk_shutdown.cancel();
        while let Some(ended) = desk.join_next().await {
            ended??;
        }
        Ok(counters.summary())
    }
}

/// How an order asks: until its deadline. Its questions are few and each must be answered, so there may be as many
/// repetitions as questions, where the default is a tenth.
fn asking(patience: Duration) -> AskerOptions {
    let resend = Resend::default().most(32).budget(RetryBudget::new(100, 10));
    AskerOptions::default().patience(patience).resend(resend)
}

/// Lets the orders in flight go on for a while, then ends their tasks.
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

/// A tick in each period; what could not be made in time is not caught up on.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}
