//! The service around the stock: answers questions, and emits an event for each change.
//!
//! The stock lives in memory, and with [`BetaOptions::store`] also in a file, so only one process can keep it. The
//! group `inventory` allows a handover: while a successor starts, each question goes to one of the two. Several
//! permanent instances would need a shared stock, such as a database. Orders that reach the wrong instance are refused
//! or undone, and their reservations expire.
//!
//! With a store, each change and its events are committed in one transaction before the question is answered, and a relay
//! emits the events. So after a crash the stock is what the answers said.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, ConnectError, Emitter, Phase, Wave, WaveBuilder};
use aether_metrics::{Metrics, ServeError};
use aether_outbox::{OpenError, Relay, RelayError, Store, StoreError};
use aether_service::config::ConfigError;
use aether_service::{
    CancellationToken, LostWaves, Rejection, Service, ServiceError, State, Typed, error_chain,
};
use tokio::sync::{Mutex, MutexGuard};
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
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error("the stock cannot be read from its store")]
    Store(#[from] StoreError),
    /// The events cannot be relayed.
    #[error(transparent)]
    Relay(#[from] RelayError),
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
    /// Emits what the store has committed.
    relay: Option<Relay>,
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
    /// The events of the change that is being made.
    events: Vec<Wave>,
    store: Option<Store>,
    /// A change was not stored, so the stock has to be read again before the next one.
    is_doubtful: bool,
    articles: BTreeMap<Sku, u32>,
    hold: Duration,
}

impl Beta {
    /// Creates the service and subscribes to its channels. Questions asked before [`Beta::run`] wait in its inbox.
    ///
    /// # Errors
    /// [`BetaError`] if the medium is closed, or the store cannot be read or has another relay.
    ///
    /// # Cancel safety
    /// Cancelled before completion, no subscription remains.
    pub async fn start(aether: &Aether, options: BetaOptions) -> Result<Self, BetaError> {
        let mut warehouse = Warehouse {
            stock: Stock::new(options.stocked(), options.hold),
            low: BTreeSet::new(),
            low_at: options.low_at.into(),
            events: Vec::new(),
            store: options.store.clone(),
            is_doubtful: options.store.is_some(),
            articles: options.stocked(),
            hold: options.hold,
        };
        warehouse.read_again().await?;
        let relay = options.store.as_ref().map(|store| Relay::spawn(store, aether)).transpose()?;
        let warehouse = Arc::new(Mutex::new(warehouse));
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
        Ok(Self { service, warehouse, relay, options })
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
    /// [`BetaError::Service`] if the service fails.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the service has ended. A stock without a store is lost.
    pub async fn run(self, shutdown: CancellationToken) -> Result<StockSummary, BetaError> {
        let Self { service, warehouse, relay, options } = self;
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
        if let Some(relay) = relay {
            let account = relay.close(GRACE).await;
            tracing::info!(%account, "the events of the stock");
        }
        Ok(warehouse.lock().await.stock.summary())
    }
}

async fn reserve(
    State(warehouse): State<Shared>,
    Typed(Reserve { order, sku, quantity }): Typed<Reserve>,
    question: Wave,
    emitter: Emitter,
) -> Result<Typed<Answer>, Rejection> {
    let mut warehouse = enter(&warehouse).await?;
    let asked_before = warehouse.stock.knows(&order);
    let reserved = warehouse.stock.reserve(&order, &sku, quantity, Instant::now().into_std());
    let event = StockEvent { order, sku, quantity, refusal: reserved.as_ref().err().cloned() };
    let (answer, channel, amplitude) = match reserved {
        Ok(available) => (Answer::Reserved { available }, messages::RESERVED, 0.5),
        Err(refusal) => (Answer::Refused { refusal }, messages::REFUSED, 0.7),
    };
    // A repetition changed nothing, so it is answered without another event.
    if !asked_before {
        warehouse.tell(stock_event(channel, &event, amplitude));
        warehouse.watch(&event.sku);
    }
    warehouse.answered(&emitter, question, answer).await
}

async fn release(
    State(warehouse): State<Shared>,
    Typed(OrderRef { order }): Typed<OrderRef>,
    question: Wave,
    emitter: Emitter,
) -> Result<Typed<Answer>, Rejection> {
    let mut warehouse = enter(&warehouse).await?;
    let Ok(freed) = warehouse.stock.release(&order) else { return Ok(Typed(Answer::AlreadySold)) };
    if let Some(reservation) = freed {
        warehouse.released(order, reservation);
    }
    warehouse.answered(&emitter, question, Answer::Released).await
}

async fn commit(
    State(warehouse): State<Shared>,
    Typed(OrderRef { order }): Typed<OrderRef>,
    question: Wave,
    emitter: Emitter,
) -> Result<Typed<Answer>, Rejection> {
    let mut warehouse = enter(&warehouse).await?;
    let answer = if warehouse.stock.commit(&order).is_ok() { Answer::Sold } else { Answer::NotReserved };
    warehouse.answered(&emitter, question, answer).await
}

async fn restock(
    State(warehouse): State<Shared>,
    Typed(supply): Typed<Supply>,
    question: Wave,
    emitter: Emitter,
) -> Result<Typed<Answer>, Rejection> {
    let mut warehouse = enter(&warehouse).await?;
    if warehouse.stock.restock(&supply.sku, supply.quantity).is_none() {
        return Ok(Typed(Answer::Refused { refusal: Refusal::UnknownSku { sku: supply.sku } }));
    }
    warehouse.restocked(&supply);
    warehouse.answered(&emitter, question, Answer::Restocked { available: 0 }).await?;
    // As it is now: a question that is handled a second time adds nothing.
    let available = warehouse.stock.available(&supply.sku).unwrap_or_default();
    Ok(Typed(Answer::Restocked { available }))
}

/// The warehouse, with the stock that the store has.
async fn enter(warehouse: &Shared) -> Result<MutexGuard<'_, Warehouse>, Rejection> {
    let mut warehouse = warehouse.lock().await;
    let read = warehouse.read_again().await;
    read.map_err(|error| Rejection::caused_by("the stock cannot be read", error))?;
    Ok(warehouse)
}

impl Warehouse {
    /// Reads the stock from its store, unless it is known to be the same.
    async fn read_again(&mut self) -> Result<(), StoreError> {
        let Some(store) = self.store.as_ref().filter(|_| self.is_doubtful) else { return Ok(()) };
        let (articles, hold, now) = (self.articles.clone(), self.hold, Instant::now().into_std());
        self.stock = store.write(move |change| Stock::stored(change, articles, hold, now)).await?;
        (self.is_doubtful, self.events) = (false, Vec::new());
        Ok(())
    }

    /// Stores the change and its events, or emits the events where nothing is stored. A change is stored once for each
    /// question: one that is handled again, because its first handling failed after the commit, changes nothing.
    async fn settle(&mut self, emitter: &Emitter, cause: Option<Wave>) -> Result<(), StoreError> {
        let events = std::mem::take(&mut self.events);
        let Some(store) = &self.store else {
            for event in events {
                announce(emitter, event).await;
            }
            return Ok(());
        };
        let rows = self.stock.take_changes(Instant::now().into_std());
        if rows.is_none() && events.is_empty() {
            return Ok(());
        }
        // Until it is known that it was stored, also where this future is dropped.
        self.is_doubtful = true;
        let stored = store.write(move |change| {
            if let Some(cause) = &cause {
                if !change.once(&cause.id())? {
                    return Ok::<_, StoreError>(false);
                }
                change.follow(cause);
            }
            if let Some(rows) = rows {
                rows.write(change)?;
            }
            events.into_iter().try_for_each(|event| change.emit(event).map(drop))?;
            Ok(true)
        });
        match stored.await? {
            true => self.is_doubtful = false,
            false => self.read_again().await?,
        }
        Ok(())
    }

    /// The answer to a question, once the change is stored.
    async fn answered(
        &mut self,
        emitter: &Emitter,
        question: Wave,
        answer: Answer,
    ) -> Result<Typed<Answer>, Rejection> {
        let settled = self.settle(emitter, Some(question)).await;
        settled.map_err(|error| Rejection::caused_by("the change cannot be stored", error))?;
        Ok(Typed(answer))
    }

    /// Makes a change that nobody asked for. If it cannot be stored, it is made again at its next time.
    async fn change(&mut self, emitter: &Emitter, change: impl FnOnce(&mut Self)) {
        let mut changed = self.read_again().await;
        if changed.is_ok() {
            change(self);
            changed = self.settle(emitter, None).await;
        }
        if let Err(error) = changed {
            tracing::warn!(error = error_chain(&error), "a change of the stock was not stored");
        }
    }

    async fn fill_up(&mut self, emitter: &Emitter) {
        let filled_up = |warehouse: &mut Self| {
            for (sku, quantity) in warehouse.stock.fill_up() {
                warehouse.restocked(&Supply { sku, quantity });
            }
        };
        self.change(emitter, filled_up).await;
    }

    /// Emits the level. It is outdated a moment later, so it is not stored.
    async fn heartbeat(&mut self, emitter: &Emitter) {
        let StockSummary { available, reserved, .. } = self.stock.summary();
        match Wave::builder(messages::LEVEL).json(&Level { available, reserved }).build() {
            Ok(wave) => announce(emitter, wave).await,
            Err(error) => tracing::warn!(error = error_chain(&error), "the level was not emitted"),
        }
    }

    async fn expire(&mut self, emitter: &Emitter) {
        let expired = |warehouse: &mut Self| {
            for (order, reservation) in warehouse.stock.expire(Instant::now().into_std()) {
                tracing::warn!(%order, sku = %reservation.sku, "a reservation expired");
                warehouse.released(order, reservation);
            }
        };
        self.change(emitter, expired).await;
    }

    fn released(&mut self, order: OrderId, reservation: Reservation) {
        let Reservation { sku, quantity, .. } = reservation;
        let event = StockEvent { order, sku, quantity, refusal: None };
        self.tell(stock_event(messages::RELEASED, &event, 0.5));
        self.watch(&event.sku);
    }

    fn restocked(&mut self, supply: &Supply) {
        self.tell(Wave::builder(messages::RESTOCKED).key(supply.sku.as_str()).json(supply));
        self.watch(&supply.sku);
    }

    /// Tells when an article begins or ceases to run low. It is strong, because it calls for action.
    fn watch(&mut self, sku: &Sku) {
        let Some(available) = self.stock.available(sku) else { return };
        let phase = if available > self.low_at {
            self.low.remove(sku).then_some(Phase::RETRACT)
        } else {
            self.low.insert(sku.clone()).then_some(Phase::ASSERT)
        };
        let Some(phase) = phase else { return };
        let low = Low { sku: sku.clone(), available };
        self.tell(Wave::builder(messages::LOW).key(sku.as_str()).phase(phase).amplitude(0.9).json(&low));
    }

    /// Adds an event to the change.
    fn tell(&mut self, event: WaveBuilder) {
        match event.build() {
            Ok(event) => self.events.push(event),
            Err(error) => tracing::warn!(error = error_chain(&error), "an event was not made"),
        }
    }
}

fn stock_event(channel: &str, event: &StockEvent, amplitude: f32) -> WaveBuilder {
    Wave::builder(channel).key(event.order.as_str()).amplitude(amplitude).json(event)
}

/// Emits an event. A failure is only logged, because a stock in memory does not depend on events.
async fn announce(emitter: &Emitter, event: Wave) {
    if let Err(error) = emitter.emit(event).await {
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
