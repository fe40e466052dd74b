//! Aether: a service with one handler.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aether_core::{Aether, Channel, Emitter, Kind, Wave};
use aether_service::{CancellationToken, Json, Service, ServiceBuilder};
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::arrivals::{Arrived, OURS};
use crate::order::{ORDERS, Order, Price, QUESTIONS, RAW};
use crate::{Outcome, Payload};

async fn json(Json(order): Json<Order>) {
    black_box((order.id, order.quantity));
    OURS.count();
}

async fn raw(wave: Wave) {
    black_box(wave.payload()[0]);
    OURS.count();
}

async fn price(Json(order): Json<Order>) -> Json<Price> {
    Json(Price { cents: 250 * u64::from(order.quantity) })
}

fn service(payload: Payload) -> ServiceBuilder {
    match payload {
        Payload::Json => Service::builder("orders").on(ORDERS, json),
        Payload::Raw => Service::builder("orders").on(ORDERS, raw),
    }
}

/// Sends messages from one side to a handler on the other; both may be the same.
pub(crate) async fn messages(
    here: &Aether,
    there: &Aether,
    payload: Payload,
    count: u64,
) -> Outcome<Arrived> {
    OURS.expect(count);
    let service = service(payload).build(there).await?;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run_until(shutdown.clone()));
    let emitter = here.emitter("shop")?;
    let start = Instant::now();
    let emitting = tokio::spawn(emit(emitter, payload, count));
    let arrived = OURS.all(start).await;
    emitting.await??;
    shutdown.cancel();
    let report = running.await??;
    assert_eq!(report.succeeded, arrived.seen, "{report}");
    Ok(arrived)
}

async fn emit(emitter: Emitter, payload: Payload, count: u64) -> Outcome<()> {
    let channel = Channel::new(ORDERS)?;
    match payload {
        Payload::Json => {
            let order = Order::example();
            for _ in 0..count {
                emitter.emit_wave(&channel, &order).await?;
            }
        }
        Payload::Raw => {
            for _ in 0..count {
                emitter.emit_bytes(&channel, Bytes::copy_from_slice(&RAW)).await?;
            }
        }
    }
    Ok(())
}

/// Asks one question after the other.
pub(crate) async fn questions(aether: &Aether, count: u64) -> Outcome<Histogram<u64>> {
    let service = Service::builder("answers").on_query(QUESTIONS, price).build(aether).await?;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run_until(shutdown.clone()));
    let (asker, channel) = (aether.emitter("asker")?, Channel::new(QUESTIONS)?);
    let (mut latency, order) = (Histogram::new(3)?, Order::example());
    for _ in 0..count {
        let start = Instant::now();
        let question = Wave::builder(&channel).kind(Kind::Query).json(&order).build()?;
        let answer = asker.ask_within(question, Duration::from_secs(5)).await?;
        let price: Price = answer.json()?;
        latency.record(start.elapsed().as_nanos() as u64)?;
        assert_eq!(price.cents, 3000);
    }
    shutdown.cancel();
    running.await??;
    Ok(latency)
}
