//! The service around the stock: answers questions, and emits an event for each change.
//!
//! The stock lives in memory, so only one process can keep it. The group `inventory` allows a handover: while a
//! successor starts, each question goes to one of the two. Several permanent instances would need a shared stock, such
//! as a database. Orders that reach the wrong instance are refused or undone, and their reservations expire.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aether_chassis::config::ConfigError;
use aether_chassis::{CancellationToken, LostWaves, Service, ServiceError, State, Typed, error_chain};
use aether_core::{Aether, ConnectError, Emitter, Phase, Wave, WaveBuilder};
use aether_metrics::{Metrics, ServeError};
use tokio::sync::Mutex;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::id::{OrderId, Sku};
use crate::messages::{self, Answer, Level, Low, OrderRef, Reserve, StockEvent, Supply};
use crate::stock::{Refusal, Reservation, Stock};
use crate::{BetaOptions, StockSummary};

/// The group that shares the questions.
const GROUP: &str = "inventory";
/// The grace period of running handlers at shutdown.
const GRACE: Duration = Duration::from_millis(600);

/// Why the inventory service failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BetaError {
    /// The medium could not be reached.
    #[error("the inventory service cannot use its medium")]
    Connect(#[from] ConnectError),
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ServeError),
    /// The service could not be created or failed.
    #[error("the inventory service failed")]
    Service(#[from] ServiceError),
    /// The summary could not be printed.
    #[error("the summary could not be printed")]
    Output(#[source] io::Error),
    /// The server did not confirm every emitted wave.
    #[error(transparent)]
    Lost(#[from] LostWaves),
}

/// The inventory service, ready to run. It is already subscribed.
#[derive(Debug)]
#[must_use = "questions wait until run() answers them"]
pub struct Beta {
    service: Service,
    warehouse: Shared,
    options: BetaOptions,
}

type Shared = Arc<Mutex<Warehouse>>;

/// The stock, and which articles run low.
#[derive(Debug)]
struct Warehouse {
    stock: Stock,
    /// The articles that were reported to run low.
    low: BTreeSet<Sku>,
    low_at: u64,
}

impl Beta {
    /// Creates the service and subscribes to its channels. Questions asked before [`Beta::run`] wait in its inbox.
    ///
    /// # Errors
    /// [`BetaError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no subscription remains.
    pub async fn start(aether: &Aether, options: BetaOptions) -> Result<Self, BetaError> {
        let stock = Stock::new(options.stocked(), options.hold);
        let low_at = options.low_at.into();
        let warehouse = Arc::new(Mutex::new(Warehouse { stock, low: BTreeSet::new(), low_at }));
        let service = Service::builder("beta")
            .configured(&options.configuration)
            .state(Arc::clone(&warehouse))
            .group(GROUP)
            .on_query(messages::RESERVE, reserve)
            .on_query(messages::RELEASE, release)
            .on_query(messages::COMMIT, commit)
            .on_query(messages::RESTOCK, restock)
            .emits::<StockEvent>(messages::RESERVED)
            .emits::<StockEvent>(messages::REFUSED)
            .emits::<StockEvent>(messages::RELEASED)
            .emits::<Supply>(messages::RESTOCKED)
            .emits::<Low>(messages::LOW)
            .emits::<Level>(messages::LEVEL)
            .describe(env!("CARGO_PKG_VERSION"), "Keeps the stock: reserves, sells and restocks articles")
            .concurrency(1) // so that events are in the order of the changes
            .grace(GRACE)
            .build(aether)
            .await?;
        Ok(Self { service, warehouse, options })
    }

    /// The metrics of the service, and of its bus.
    #[must_use]
    pub fn metrics(&self, aether: &Aether) -> Metrics {
        self.add_metrics(Metrics::of(aether))
    }

    /// Adds the service to the metrics of a program that runs other services on the same bus.
    #[must_use]
    pub fn add_metrics(&self, metrics: Metrics) -> Metrics {
        metrics.service(&self.service)
    }

    /// Answers until `shutdown` is cancelled or the medium is closed.
    ///
    /// # Errors
    /// None: the stock is in memory. The signature leaves room for a persistent one.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended and its stock is lost.
    pub async fn run(self, shutdown: CancellationToken) -> Result<StockSummary, BetaError> {
        let Self { service, warehouse, options } = self;
        let emitter = service.emitter();
        let mut restock = options.restock_every.map(every);
        // With this period a reservation lasts at most an eighth longer than its hold.
        let mut expiry = every((options.hold / 8).max(Duration::from_millis(1)));
        let mut heartbeat = options.heartbeat.map(every);
        let mut running = pin!(service.run_until(shutdown));
        loop {
            tokio::select! {
                ended = &mut running => {
                    ended?;
                    break;
                }
                () = tick(restock.as_mut()) => warehouse.lock().await.fill_up(&emitter).await,
                () = tick(heartbeat.as_mut()) => warehouse.lock().await.heartbeat(&emitter).await,
                _ = expiry.tick() => warehouse.lock().await.expire(&emitter).await,
            }
        }
        Ok(warehouse.lock().await.stock.summary())
    }
}

async fn reserve(
    State(warehouse): State<Shared>,
    Typed(Reserve { order, sku, quantity }): Typed<Reserve>,
    emitter: Emitter,
) -> Typed<Answer> {
    let mut warehouse = warehouse.lock().await;
    let asked_before = warehouse.stock.knows(&order);
    let reserved = warehouse.stock.reserve(&order, &sku, quantity, Instant::now().into_std());
    let event = StockEvent { order, sku, quantity, refusal: reserved.as_ref().err().cloned() };
    let (answer, channel, amplitude) = match reserved {
        Ok(available) => (Answer::Reserved { available }, messages::RESERVED, 0.5),
        Err(refusal) => (Answer::Refused { refusal }, messages::REFUSED, 0.7),
    };
    // A repetition changed nothing, so it is answered without another event.
    if !asked_before {
        announce(&emitter, stock_event(channel, &event, amplitude)).await;
        warehouse.watch(&event.sku, &emitter).await;
    }
    Typed(answer)
}

async fn release(
    State(warehouse): State<Shared>,
    Typed(OrderRef { order }): Typed<OrderRef>,
    emitter: Emitter,
) -> Typed<Answer> {
    let mut warehouse = warehouse.lock().await;
    let Ok(freed) = warehouse.stock.release(&order) else { return Typed(Answer::AlreadySold) };
    if let Some(reservation) = freed {
        warehouse.released(order, reservation, &emitter).await;
    }
    Typed(Answer::Released)
}

async fn commit(
    State(warehouse): State<Shared>,
    Typed(OrderRef { order }): Typed<OrderRef>,
) -> Typed<Answer> {
    let committed = warehouse.lock().await.stock.commit(&order);
    Typed(if committed.is_ok() { Answer::Sold } else { Answer::NotReserved })
}

async fn restock(
    State(warehouse): State<Shared>,
    Typed(supply): Typed<Supply>,
    emitter: Emitter,
) -> Typed<Answer> {
    let mut warehouse = warehouse.lock().await;
    let Some(available) = warehouse.stock.restock(&supply.sku, supply.quantity) else {
        return Typed(Answer::Refused { refusal: Refusal::UnknownSku { sku: supply.sku } });
    };
    warehouse.restocked(&supply, &emitter).await;
    Typed(Answer::Restocked { available })
}

impl Warehouse {
    async fn fill_up(&mut self, emitter: &Emitter) {
        for (sku, quantity) in self.stock.fill_up() {
            self.restocked(&Supply { sku, quantity }, emitter).await;
        }
    }

    async fn heartbeat(&mut self, emitter: &Emitter) {
        let StockSummary { available, reserved, .. } = self.stock.summary();
        announce(emitter, Wave::builder(messages::LEVEL).json(&Level { available, reserved })).await;
    }

    async fn expire(&mut self, emitter: &Emitter) {
        for (order, reservation) in self.stock.expire(Instant::now().into_std()) {
            tracing::warn!(%order, sku = %reservation.sku, "a reservation expired");
            self.released(order, reservation, emitter).await;
        }
    }

    async fn released(&mut self, order: OrderId, reservation: Reservation, emitter: &Emitter) {
        let Reservation { sku, quantity, .. } = reservation;
        let event = StockEvent { order, sku, quantity, refusal: None };
        announce(emitter, stock_event(messages::RELEASED, &event, 0.5)).await;
        self.watch(&event.sku, emitter).await;
    }

    async fn restocked(&mut self, supply: &Supply, emitter: &Emitter) {
        announce(emitter, Wave::builder(messages::RESTOCKED).key(supply.sku.as_str()).json(supply)).await;
        self.watch(&supply.sku, emitter).await;
    }

    /// Emits an event when an article begins or ceases to run low. It is strong, because it calls for action.
    async fn watch(&mut self, sku: &Sku, emitter: &Emitter) {
        let Some(available) = self.stock.available(sku) else { return };
        let phase = if available > self.low_at {
            self.low.remove(sku).then_some(Phase::RETRACT)
        } else {
            self.low.insert(sku.clone()).then_some(Phase::ASSERT)
        };
        let Some(phase) = phase else { return };
        let low = Low { sku: sku.clone(), available };
        let wave = Wave::builder(messages::LOW).key(sku.as_str()).phase(phase).amplitude(0.9);
        announce(emitter, wave.json(&low)).await;
    }
}

fn stock_event(channel: &str, event: &StockEvent, amplitude: f32) -> WaveBuilder {
    Wave::builder(channel).key(event.order.as_str()).amplitude(amplitude).json(event)
}

/// Emits an event. A failure is only logged, because the stock does not depend on events.
async fn announce(emitter: &Emitter, wave: WaveBuilder) {
    let emitted = match wave.build() {
        Ok(wave) => emitter.emit(wave).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = emitted {
        tracing::warn!(error = error_chain(&error), "an event was not emitted");
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}
