//! A service made of handlers: async functions over their arguments.
//!
//! A handler is an `async fn`; its arguments are extracted from the wave, as in axum. Its return value is the outcome
//! or the answer. The service calls it when there is room, retries failures (weaker, and within a budget), sends
//! failures to askers instead of letting them wait, and counts every wave by its outcome.
//!
//! `cargo run -p aether-examples --example 07_handlers`

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aether_core::{Aether, AskError, EmitError, Emitter, Vibrator, Wave};
use aether_service::{Breaker, CancellationToken, Handlers, Json, Limits, Rejection, Resend, Service, State};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    article: String,
    units: u32,
}

type Shelf = Arc<Mutex<BTreeMap<String, u32>>>;

/// The value is the answer; an error is sent to the asker at once. Emitted waves name the question as their cause.
async fn reserve(
    State(shelf): State<Shelf>,
    Json(order): Json<Order>,
    emitter: Emitter,
) -> Result<Json<u32>, Rejection> {
    let left = {
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let units = shelf.get_mut(&order.article).ok_or_else(|| Rejection::new("no such article"))?;
        *units = units.checked_sub(order.units).ok_or_else(|| Rejection::new("not enough left"))?;
        *units
    };
    let told = emitter.emit_wave("stock.reserved", &order).await;
    told.map_err(|error| Rejection::caused_by("the event cannot be emitted", error))?;
    Ok(Json(left))
}

/// Fails at first. The wave returns to the inbox half as strong, and is handled again when its turn comes.
async fn count(wave: Wave, emitter: Emitter) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if wave.attempt() < 2 {
        return Err("the scales are not ready".into());
    }
    emitter.emit_wave("stock.counted", &wave.amplitude().as_f32()).await?;
    Ok(())
}

/// A panic fails its wave, not the service. It is retried like any failure; the asker receives the last one.
async fn audit() -> Result<(), EmitError> {
    panic!("the books do not agree")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let aether = Aether::local();
    let shelf = Shelf::new(Mutex::new([("lamp".to_owned(), 5)].into()));
    let service = Service::builder("stock")
        // Applies to the handlers after it, as does a group, in which one of all instances handles each wave.
        .state(shelf)
        .group("stock")
        .on_query("stock.reserve", reserve)
        .on("stock.count", count)
        // A set with limits of its own: while its circuit is open, the other handlers go on.
        .handlers(
            Handlers::new()
                .on_query("stock.audit", audit)
                .limits(Limits::new().concurrency(1).circuit_breaker(Breaker::default().failures(20))),
        )
        // The limits of the service, and of its sets where they have none. Waves wait in the inbox, strongest first.
        .concurrency(8)
        .time_out(Duration::from_secs(1))
        .retry(Resend::default().most(2))
        .build(&aether)
        .await?;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run_until(shutdown.clone()));

    let mut shop = Vibrator::create("shop", &aether).await?;
    shop.resonate_on("stock.reserved").await?;
    shop.resonate_on("stock.counted").await?;

    let order = Order { article: "lamp".to_owned(), units: 2 };
    let answer = shop.ask_wave("stock.reserve", &order).await?;
    println!("{} lamps left", answer.json::<u32>()?);
    let told = shop.receive().await.ok_or("the medium was closed")?;
    assert_eq!((told.json::<Order>()?, told.cause()), (order, answer.cause()), "both name the question");

    for (channel, payload) in [("stock.reserve", "two lamps, please"), ("stock.audit", "")] {
        match shop.ask_wave(channel, &payload).await {
            Err(AskError::Failed { source, .. }) => println!("{channel}: {source}"),
            other => return Err(format!("{other:?} does not count as a failure").into()),
        }
    }

    shop.emit(Wave::builder("stock.count").amplitude(0.8).build()?).await?;
    let counted = shop.receive().await.ok_or("the medium was closed")?;
    println!("counted at the third attempt, a quarter as strong: {:.2}", counted.json::<f32>()?);

    shutdown.cancel();
    let report = running.await??;
    println!("{report}");
    assert_eq!((report.received, report.succeeded, report.retried), (8, 2, 4));
    assert_eq!((report.rejected, report.panicked, report.failed), (1, 1, 0));
    Ok(())
}
