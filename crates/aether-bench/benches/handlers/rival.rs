//! RustStream: a service with one subscriber, over its broker in memory and over its broker for NATS.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ruststream::memory::prelude::*;
use ruststream::runtime::{Outgoing as OutgoingView, PublishContext};
use ruststream::{Broker, IncomingMessage, OutgoingMessage};
use ruststream_nats::NatsBroker;

use crate::arrivals::{Arrived, THEIRS};
use crate::order::{ORDERS, Order, Price, QUESTIONS, RAW};
use crate::{Outcome, Payload};

/// The payload as it arrived, without a codec.
#[derive(Deserialized)]
struct Frame<'a>(&'a [u8]);

/// A payload that leaves as it is.
#[derive(Outgoing, Serialized)]
struct Body(Vec<u8>);

#[subscriber("bench.orders")]
async fn read(order: &Order) -> HandlerOutcome {
    black_box((order.id, order.quantity));
    THEIRS.count();
    HandlerOutcome::ack()
}

#[subscriber("bench.orders")]
async fn take(frame: &Frame<'_>) -> HandlerOutcome {
    black_box(frame.0[0]);
    THEIRS.count();
    HandlerOutcome::ack()
}

#[subscriber("bench.questions", reply("bench.answers"))]
async fn price(order: &Order) -> Price {
    Price { cents: 250 * u64::from(order.quantity) }
}

/// Sends the answer to where the question asks for it.
struct ReplyTo;

impl<C, Options> PublishTransform<ForReply<C>, Options> for ReplyTo {
    type Destination = Names;

    fn apply(&self, out: &mut OutgoingView<'_>, _: &mut Option<Options>, context: &PublishContext<'_, C>) {
        if let Some(to) = context.headers().get_shared("reply-to")
            && let Ok(to) = Str::try_from(to)
        {
            out.set_name(to);
        }
    }
}

/// Sends messages to a handler in the same process.
pub(crate) async fn in_memory(payload: Payload, count: u64) -> Outcome<Arrived> {
    THEIRS.expect(count);
    let broker = MemoryBroker::new();
    let app =
        RustStream::new(AppInfo::new("orders", "0.0.0")).with_broker(broker.clone(), |b| match payload {
            Payload::Json => drop(b.include(read)),
            Payload::Raw => drop(b.include(take)),
        });
    let running = app.start().await?;
    let arrived = publish(broker.publisher(), payload, count).await?;
    drop(running);
    Ok(arrived)
}

/// Sends messages to a handler over NATS, with a connection for each side.
pub(crate) async fn over_nats(url: &str, payload: Payload, count: u64) -> Outcome<Arrived> {
    THEIRS.expect(count);
    let app =
        RustStream::new(AppInfo::new("orders", "0.0.0")).with_broker(
            NatsBroker::new(url),
            |b| match payload {
                Payload::Json => drop(b.include(read)),
                Payload::Raw => drop(b.include(take)),
            },
        );
    let running = app.start().await?;
    let connected = NatsBroker::new(url).connect().await?;
    let arrived = publish(connected.publisher(ruststream_nats::NatsPublish), payload, count).await?;
    drop(running);
    Ok(arrived)
}

async fn publish<P>(publisher: P, payload: Payload, count: u64) -> Outcome<Arrived>
where
    P: Publisher + Send + Sync + 'static,
{
    let start = Instant::now();
    let publishing = tokio::spawn(async move {
        match payload {
            Payload::Json => {
                let order = Order::example();
                for _ in 0..count {
                    publisher.message(&order).to(ORDERS).publish().await?;
                }
            }
            Payload::Raw => {
                for _ in 0..count {
                    publisher.message(&Body(RAW.to_vec())).to(ORDERS).publish().await?;
                }
            }
        }
        Outcome::Ok(())
    });
    let arrived = THEIRS.all(start).await;
    publishing.await??;
    Ok(arrived)
}

/// Asks one question after the other.
pub(crate) async fn questions(count: u64) -> Outcome<Histogram<u64>> {
    let broker = MemoryBroker::new();
    let app = RustStream::new(AppInfo::new("answers", "0.0.0")).with_broker(broker.clone(), |b| {
        b.include(price).out_reply(Publish).transform(ReplyTo);
    });
    let running = app.start().await?;
    let requester = broker.requester();
    let (mut latency, order) = (Histogram::new(3)?, Order::example());
    for _ in 0..count {
        let start = Instant::now();
        let question = serde_json::to_vec(&order)?;
        let question = OutgoingMessage::new(QUESTIONS, &question);
        let reply = requester.request(question, Duration::from_secs(5)).await?;
        let answer: Price = serde_json::from_slice(reply.payload())?;
        latency.record(start.elapsed().as_nanos() as u64)?;
        assert_eq!(answer.cents, 3000);
    }
    drop(running);
    Ok(latency)
}
