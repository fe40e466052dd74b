//! Durable channels in JetStream beside the same with the plain client, async-nats.
//!
//! `cargo xtask bench jetstream`
//!
//! One server on this machine with its store in a temporary folder, waves of 128 bytes, all sides by turns.
//!
//! Emitting: *one at a time* publishes a message and waits for its acknowledgement before the next, as most programs do.
//! *plain, at once* has as many publications under way as the bus has tasks. *bus* is `emit` on a durable channel by these
//! tasks, with the stamp, the frame, the identity against copies, and a live medium in process behind it.
//!
//! Consuming: *plain* is a pull consumer that receives and acknowledges without waiting for the server. *plain, confirmed*
//! waits for the server with each. *bus, handle* is [`Consumer::handle`], *bus, confirmed* is one task that awaits each
//! `ack`. *durable handler* is a service with [`on_durable`]. What is handled is the same backlog, and each wave is decoded.
//! For all of them the time ends when the server has noted the acknowledgements.
//! *a folder* is such a service with a log in a folder, whose acknowledgements are stored. *by key* is one whose handler
//! takes 5 ms and that handles 64 keys at once, beside 64 times the rate of one at a time.
//!
//! [`Consumer::handle`]: aether_log::Consumer::handle
//! [`on_durable`]: aether_service::ServiceBuilder::on_durable

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Channel, Durability, Wave};
use aether_log::{ConsumerOptions, Delivery, JetStreamLog, Log};
use aether_service::{CancellationToken, Durable, Service, State};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, Context, stream};
use bytes::Bytes;
use clap::Parser;
use futures_util::StreamExt as _;
use tokio::sync::watch;

const BYTES: usize = 128;
const TASKS: usize = 512;

#[derive(Parser)]
struct Args {
    /// The duration of each measurement of emitting, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The number of rounds; the median is printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The number of waves that are consumed in a measurement. Those that wait for the server with each take a tenth.
    #[arg(long, default_value_t = 100_000)]
    waves: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn payload() -> Bytes {
    vec![7; BYTES].into()
}

/// Publications a second, each awaited by one of `tasks` tasks.
async fn publish(context: &Context, tasks: usize, duration: Duration) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let context = context.clone();
            tokio::spawn(async move {
                let mut published = 0_u64;
                while start.elapsed() < duration {
                    let mut headers = HeaderMap::new();
                    headers.insert("Nats-Msg-Id", format!("{start:?}-{task}-{published}"));
                    let sent = context.publish_with_headers("plain.created", headers, payload()).await;
                    sent.unwrap().await.unwrap();
                    published += 1;
                }
                published
            })
        })
        .collect();
    let mut published = 0;
    for task in tasks {
        published += task.await.unwrap();
    }
    published as f64 / start.elapsed().as_secs_f64()
}

/// Emits a second of `tasks` tasks.
async fn emit(aether: &Aether, tasks: usize, duration: Duration) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (shop, channel) = (aether.emitter("shop").unwrap(), Channel::new("orders.created").unwrap());
            tokio::spawn(async move {
                let mut emitted = 0_u64;
                while start.elapsed() < duration {
                    let receipt = shop.emit(Wave::from_bytes(&channel, payload()).unwrap()).await.unwrap();
                    assert_eq!(receipt.stored.unwrap().durability, Durability::Stored);
                    emitted += 1;
                }
                emitted
            })
        })
        .collect();
    let mut emitted = 0;
    for task in tasks {
        emitted += task.await.unwrap();
    }
    emitted as f64 / start.elapsed().as_secs_f64()
}

/// Makes the backlog that all sides consume, of 128 keys.
async fn fill(aether: &Aether, waves: usize) {
    let (shop, channel) = (aether.emitter("shop").unwrap(), Channel::new("backlog.created").unwrap());
    for first in (0..waves).step_by(1000) {
        let emits = (first..waves.min(first + 1000))
            .map(|number| Wave::builder(channel.clone()).key(&(number % 128).to_string()).bytes(payload()))
            .map(|wave| shop.emit(wave.build().unwrap()));
        futures_util::future::try_join_all(emits).await.unwrap();
    }
}

async fn plain_consumer(context: &Context, name: &str) -> PullConsumer {
    let stream = context.get_stream("bench").await.unwrap();
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject: "aether-log.bench.backlog.>".to_owned(),
        max_ack_pending: 65_536,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.unwrap()
}

/// Messages a second through the plain client.
async fn consume(context: &Context, name: &str, waves: usize, is_confirmed: bool) -> f64 {
    let consumer = plain_consumer(context, name).await;
    let start = Instant::now();
    // As many at once as the bus asks for.
    let mut messages = consumer.stream().max_messages_per_batch(8192).messages().await.unwrap();
    let mut bytes = 0;
    for _ in 0..waves {
        let message = messages.next().await.unwrap().unwrap();
        bytes += message.payload.len();
        match is_confirmed {
            true => message.double_ack().await.unwrap(),
            false => message.ack().await.unwrap(),
        }
    }
    noted(context, name, waves).await;
    let rate = waves as f64 / start.elapsed().as_secs_f64();
    assert!(bytes > waves * BYTES);
    context.delete_consumer_from_stream(name, "bench").await.unwrap();
    rate
}

/// Waits until the server has noted the acknowledgements of this number of messages.
async fn noted(context: &Context, name: &str, waves: usize) {
    let stream = context.get_stream_no_info("bench").await.unwrap();
    let mut every = tokio::time::interval(Duration::from_millis(5));
    loop {
        every.tick().await;
        let info = stream.consumer_info(name).await.unwrap();
        if info.num_ack_pending == 0 || info.ack_floor.consumer_sequence >= waves as u64 {
            return;
        }
    }
}

/// Waves a second through a consumer of the bus.
async fn handle(log: &JetStreamLog, context: &Context, name: &str, waves: usize, is_confirmed: bool) -> f64 {
    let consumer = log.consumer(name, "backlog.>", ConsumerOptions::default()).unwrap();
    let (mut handled, mut bytes, start) = (0, 0, Instant::now());
    if is_confirmed {
        while handled < waves {
            let delivery = consumer.receive().await.unwrap();
            (handled, bytes) = (handled + 1, bytes + delivery.wave().payload().len());
            delivery.ack().await.unwrap();
        }
    } else {
        let (done, mut all) = tokio::sync::oneshot::channel();
        let mut done = Some(done);
        let handling = consumer.handle(async |delivery: &Delivery| {
            (handled, bytes) = (handled + 1, bytes + delivery.wave().payload().len());
            if handled == waves
                && let Some(done) = done.take()
            {
                done.send(()).unwrap();
            }
            Ok::<_, String>(())
        });
        tokio::select! {
            biased;
            ended = handling => panic!("{ended:?}"),
            _ = &mut all => {}
        }
    }
    noted(context, name, waves).await;
    let rate = waves as f64 / start.elapsed().as_secs_f64();
    assert!(bytes >= waves * BYTES);
    drop(consumer);
    context.delete_consumer_from_stream(name, "bench").await.unwrap();
    rate
}

/// Waves a second through a durable handler, which takes some time for each, until all are `noted`.
async fn serve(
    aether: &Aether,
    durable: Durable,
    (waves, takes): (usize, Duration),
    noted: impl Future<Output = ()>,
) -> f64 {
    let handled = Arc::new(watch::Sender::new(0_usize));
    type Handled = (Arc<watch::Sender<usize>>, Duration);
    let handler = async |State((handled, takes)): State<Handled>, wave: Wave| {
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        assert_eq!(wave.payload().len(), BYTES);
        handled.send_modify(|handled| *handled += 1);
    };
    let service = Service::builder("worker").state((Arc::clone(&handled), takes));
    let service = service.on_durable("backlog.>", durable, handler).build(aether).await.unwrap();
    let (shutdown, mut all, start) = (CancellationToken::new(), handled.subscribe(), Instant::now());
    let running = tokio::spawn(service.run_until(shutdown.clone()));
    all.wait_for(|handled| *handled >= waves).await.unwrap();
    noted.await;
    let rate = waves as f64 / start.elapsed().as_secs_f64();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    rate
}

/// The same from a log in a folder, at full speed and by key.
async fn serve_from_folder(rounds: usize, waves: usize) {
    let folder =
        tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into())).unwrap();
    let log = Log::builder(folder.path()).channels(">", Durability::Stored).unwrap().open().unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let waves = waves * 5;
    fill(&aether, waves).await;
    let takes = Duration::from_millis(5);
    let mut rates = [const { Vec::new() }; 3];
    for round in 0..rounds {
        let full = Durable::consumer(&format!("full-{round}"));
        rates[0].push(serve(&aether, full, (waves, Duration::ZERO), ready(())).await);
        let one = Durable::consumer(&format!("one-{round}")).by_key(1);
        rates[1].push(serve(&aether, one, (200, takes), ready(())).await);
        let many = Durable::consumer(&format!("many-{round}")).by_key(64);
        rates[2].push(serve(&aether, many, (12_800, takes), ready(())).await);
    }
    let [full, one, many] = rates.map(median);
    println!("| from a folder | a second | |\n|---|---|---|");
    println!("| durable handler | {full:.0} | the goal is 200000 |");
    println!("| 5 ms, one at a time | {one:.1} | |");
    println!(
        "| 5 ms, by key, 64 at once | {many:.0} | {:.3} of 64 times one; the goal is 0.95 |",
        many / one / 64.0
    );
    aether.close().await.unwrap();
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Args { seconds, rounds, waves, .. } = Args::parse();
    let folder =
        tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into())).unwrap();
    let server = NatsServer::start_with(ServerOptions::default().jetstream(folder.path())).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = jetstream::new(client);
    let config = stream::Config {
        name: "plain".to_owned(),
        subjects: vec!["plain.>".to_owned()],
        ..stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    let log = JetStreamLog::builder(server.url(), "bench").channels(">", Durability::Stored).unwrap();
    let log = log.open().await.unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();

    let duration = Duration::from_secs_f64(seconds);
    let mut rates = [const { Vec::new() }; 3];
    // In turns, so that a change of the machine meets all.
    for _ in 0..rounds {
        rates[0].push(publish(&context, 1, duration).await);
        rates[1].push(publish(&context, TASKS, duration).await);
        rates[2].push(emit(&aether, TASKS, duration).await);
    }
    let [one, plain, bus] = rates.map(median);
    println!("| stored, {BYTES} bytes | a second | of one at a time |\n|---|---|---|");
    for (name, rate) in [("plain, one at a time", one), ("plain, at once", plain), ("bus, at once", bus)] {
        println!("| {name} | {rate:.0} | {:.2} |", rate / one);
    }
    println!("({TASKS} tasks; the goal of the bus is 5)\n");

    fill(&aether, waves).await;
    let mut rates = [const { Vec::new() }; 5];
    for round in 0..rounds {
        rates[0].push(consume(&context, &format!("plain-{round}"), waves, false).await);
        rates[1].push(handle(&log, &context, &format!("bus-{round}"), waves, false).await);
        rates[2].push(consume(&context, &format!("plain-confirmed-{round}"), waves / 10, true).await);
        rates[3].push(handle(&log, &context, &format!("bus-confirmed-{round}"), waves / 10, true).await);
        let name = format!("service-{round}");
        let (durable, all) = (Durable::consumer(&name), noted(&context, &name, waves));
        rates[4].push(serve(&aether, durable, (waves, Duration::ZERO), all).await);
        context.delete_consumer_from_stream(name, "bench").await.unwrap();
    }
    let [plain, bus, plain_confirmed, bus_confirmed, service] = rates.map(median);
    println!("| consumed and acknowledged | a second | of plain |\n|---|---|---|");
    for (name, rate, of) in [
        ("plain", plain, plain),
        ("bus, handle", bus, plain),
        ("bus, durable handler", service, plain),
        ("plain, each confirmed", plain_confirmed, plain_confirmed),
        ("bus, each confirmed", bus_confirmed, plain_confirmed),
    ] {
        println!("| {name} | {rate:.0} | {:.2} |", rate / of);
    }
    println!("(the goal is 0.9)\n");
    serve_from_folder(rounds, waves).await;
    aether.close().await.unwrap();
}
