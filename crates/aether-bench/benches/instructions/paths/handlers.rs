//! The handlers of a service: from `emit` to the end of the handler, and from `ask` to the answer.

use std::sync::atomic::{AtomicU64, Ordering};

use aether_bench::DEFAULT_BYTES;
use aether_core::wave::TraceContext;
use aether_core::{Aether, Channel, Emitter, Kind, Wave};
use aether_service::{CancellationToken, Json, Service, ServiceBuilder, telemetry};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tokio::sync::Notify;

use super::channels::{fresh, shared};
use super::{Outcome, counted};

const CHANNEL: &str = "orders.created";

/// Waves that still have to be handled.
static LEFT: AtomicU64 = AtomicU64::new(0);
static DONE: Notify = Notify::const_new();

/// About 100 bytes of JSON: two texts and two numbers.
#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    sku: String,
    quantity: u32,
}

impl Order {
    fn example() -> Self {
        let (customer, sku) = ("a customer of the shop".to_owned(), "lamp-brass-3-arms".to_owned());
        Self { id: 4_711_000_017, customer, sku, quantity: 12 }
    }
}

fn count() {
    if LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        DONE.notify_one();
    }
}

async fn raw(wave: Wave) {
    assert_eq!(wave.payload().len(), DEFAULT_BYTES);
    count();
}

async fn json(Json(order): Json<Order>) {
    assert_eq!(order.quantity, 12);
    count();
}

async fn price(Json(order): Json<Order>) -> Json<u64> {
    Json(250 * u64::from(order.quantity))
}

async fn emitting(emitter: Emitter) {
    assert!(emitter.cause().is_some());
    count();
}

/// Pending once, as a handler is that waits for a database.
async fn pending() {
    tokio::task::yield_now().await;
    count();
}

pub(crate) fn raw_fresh(waves: u64) -> Outcome {
    let payload = fresh();
    events(waves, service().on(CHANNEL, raw), move |channel| Ok(Wave::from_bytes(channel, payload())?))
}

pub(crate) fn raw_shared(waves: u64) -> Outcome {
    let payload = shared();
    events(waves, service().on(CHANNEL, raw), move |channel| Ok(Wave::from_bytes(channel, payload())?))
}

pub(crate) fn metered(waves: u64) -> Outcome {
    let (payload, channel) = (shared(), Channel::new(CHANNEL)?);
    let make = move || -> Result<Wave, crate::Error> { Ok(Wave::from_bytes(&channel, payload())?) };
    served(waves, service().on(CHANNEL, raw), true, async |emitter, waves| emit(emitter, waves, &make).await)
}

pub(crate) fn unsampled(waves: u64) -> Outcome {
    // Nobody listens there, and nothing is sampled that would have to go there.
    telemetry::start("http://127.0.0.1:1", "bench")?;
    let (payload, channel) = (shared(), Channel::new(CHANNEL)?);
    let make = move || -> Result<Wave, crate::Error> { Ok(Wave::from_bytes(&channel, payload())?) };
    let trace = TraceContext::new(17, 4, 0)?;
    served(waves, service().on(CHANNEL, raw), true, async |emitter, waves| {
        emit(&emitter.within_trace(trace.clone()), waves, &make).await
    })
}

pub(crate) fn read_json(waves: u64) -> Outcome {
    let order = Order::example();
    events(waves, service().on(CHANNEL, json), move |channel| Ok(Wave::new(channel, &order)?))
}

pub(crate) fn takes_an_emitter(waves: u64) -> Outcome {
    let payload = shared();
    events(waves, service().on(CHANNEL, emitting), move |channel| Ok(Wave::from_bytes(channel, payload())?))
}

pub(crate) fn is_pending(waves: u64) -> Outcome {
    let payload = shared();
    events(waves, service().on(CHANNEL, pending), move |channel| Ok(Wave::from_bytes(channel, payload())?))
}

/// The handler among others, by a pattern.
pub(crate) fn among_others(waves: u64) -> Outcome {
    let payload = shared();
    let mut service = service();
    for other in ["invoices.*", "stock.*.low", "stock.reserved", "letters.>"] {
        service = service.on(other, raw);
    }
    events(waves, service.on("orders.*", raw), move |channel| Ok(Wave::from_bytes(channel, payload())?))
}

fn service() -> ServiceBuilder {
    Service::builder("orders")
}

fn events(
    waves: u64,
    service: ServiceBuilder,
    make: impl Fn(&Channel) -> Result<Wave, crate::Error>,
) -> Outcome {
    let channel = Channel::new(CHANNEL)?;
    served(waves, service, false, async |emitter, waves| emit(emitter, waves, || make(&channel)).await)
}

/// Emits waves, and waits until they are handled.
async fn emit(emitter: &Emitter, waves: u64, make: impl Fn() -> Result<Wave, crate::Error>) -> Outcome {
    LEFT.store(waves, Ordering::Relaxed);
    for _ in 0..waves {
        emitter.emit(make()?).await?;
    }
    while LEFT.load(Ordering::Relaxed) > 0 {
        DONE.notified().await;
    }
    Ok(())
}

pub(crate) fn asked(waves: u64) -> Outcome {
    let (channel, order) = (Channel::new(CHANNEL)?, Order::example());
    served(waves, service().on_query(CHANNEL, price), false, async |emitter, waves| {
        for _ in 0..waves {
            let question = Wave::builder(&channel).kind(Kind::Query).json(&order).build()?;
            assert_eq!(emitter.ask(question).await?.json::<u64>()?, 3000);
        }
        Ok(())
    })
}

/// Runs a service, and a task that sends `waves` waves.
fn served(
    waves: u64,
    service: ServiceBuilder,
    is_metered: bool,
    send: impl AsyncFn(&Emitter, u64) -> Outcome,
) -> Outcome {
    // Paused, or handlers would take so long below valgrind that the service moves them into tasks of their own.
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let aether = Aether::local();
    let (emitter, shutdown) = (aether.emitter("shop")?, CancellationToken::new());
    let service = runtime.block_on(service.build(&aether))?;
    if is_metered {
        let _ = service.counters().timings();
    }
    let running = runtime.spawn(service.run_until(shutdown.clone()));
    counted(waves, |waves| runtime.block_on(send(&emitter, waves)))?;
    shutdown.cancel();
    let report = runtime.block_on(running)??;
    assert_eq!(report.received, report.succeeded, "{report}");
    Ok(())
}
