//! Waves in JetStream that are larger than a message may be: they are stored in parts, and consumers get them whole.

use std::time::Duration;

use aether::nats::NatsOptions;
use aether::seal::SealKeys;
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Durability, EmitError, Emitter, Kind, Source, Wave, WaveId};
use aether_log::{Consumer, Delivery, DurableLog, JetStreamLog, JetStreamView};
use async_nats::jetstream::Context;
use tempfile::TempDir;

use crate::durable::killing;
use crate::durable::stage::{connect, none_until, options, order, position, quick, receive};
use crate::killed::{run_and_kill, say};

const MIB: usize = 1 << 20;

async fn server(max_payload: usize) -> (NatsServer, TempDir) {
    let streams = tempfile::tempdir().unwrap();
    let options = ServerOptions::default().jetstream(streams.path()).setting("max_payload", max_payload);
    (NatsServer::start_with(options).await.unwrap(), streams)
}

async fn open_with(server: &NatsServer, nats: NatsOptions) -> JetStreamLog {
    let log = JetStreamLog::builder(server.url(), "shop").options(options()).nats(nats);
    log.channels("orders.>", Durability::Stored).unwrap().open().await.unwrap()
}

async fn open(server: &NatsServer) -> JetStreamLog {
    open_with(server, NatsOptions::default()).await
}

async fn shop(log: &JetStreamLog) -> Emitter {
    connect(&log.clone().into()).await.emitter("shop").unwrap()
}

async fn context(server: &NatsServer) -> Context {
    async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

async fn messages(context: &Context, stream: &str) -> u64 {
    context.get_stream(stream).await.unwrap().cached_info().state.messages
}

/// The bytes differ from one place to the next, and from one seed to the next.
fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u8) ^ ((at >> 8) as u8).wrapping_mul(31) ^ (at >> 16) as u8 ^ seed).collect()
}

fn large(seed: u8, bytes: usize) -> Wave {
    Wave::builder("orders.created").key("lamp").bytes(content(seed, bytes)).build().unwrap()
}

fn is(delivery: &Delivery, seed: u8, bytes: usize) {
    assert_eq!(delivery.wave().payload().len(), bytes);
    assert!(delivery.wave().payload() == &content(seed, bytes), "the content of {seed}");
    assert_eq!(delivery.wave().key(), Some("lamp"));
}

async fn billing(log: &JetStreamLog) -> Consumer {
    let consumer = log.consumer("billing", "orders.>", quick().max_attempts(2.try_into().unwrap())).unwrap();
    consumer.ready().await.unwrap();
    consumer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_waves_come_whole_sealed_or_not() {
    for keys in [None, Some(SealKeys::generate().unwrap())] {
        let (server, _streams) = server(MIB).await;
        let nats =
            || keys.clone().map_or_else(NatsOptions::default, |keys| NatsOptions::default().keys(keys));
        let log = open_with(&server, nats()).await;
        let shop = shop(&log).await;
        let sizes = [MIB + 1, 5 * MIB, 60 * MIB, MIB - 300, 7];
        for (seed, bytes) in (0..).zip(sizes) {
            let receipt = shop.emit(large(seed, bytes)).await.unwrap();
            assert_eq!(position(&receipt), u64::from(seed) + 1, "parts take no position");
        }
        let batch = (5..8).map(|seed| large(seed, 2 * MIB));
        assert_eq!(shop.emit_all(batch).await.unwrap().emitted, 3);
        let consumer = billing(&log).await;
        for (seed, bytes) in (0..).zip(sizes.into_iter().chain([2 * MIB; 3])) {
            let delivery = receive(&consumer).await;
            is(&delivery, seed, bytes);
            delivery.ack().await.unwrap();
        }
        let account = consumer.account().await.unwrap();
        assert_eq!((account.stored, account.acknowledged, account.expired), (8, 8, 0), "{account:?}");
        let view = JetStreamView::open(&server.url(), nats()).await.unwrap();
        let pattern = "orders.>".try_into().unwrap();
        let waves = view.waves("shop", &pattern, 2, 100).await.unwrap();
        assert_eq!((waves.len(), waves[0].wave.payload().len()), (7, 5 * MIB));
        assert!(waves[1].wave.payload() == &content(2, 60 * MIB));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_beyond_the_limit_is_handed_back_before_anything_is_stored() {
    let (server, _streams) = server(MIB).await;
    let log = open(&server).await;
    let refused = shop(&log).await.emit(large(1, 65 * MIB)).await.unwrap_err();
    assert!(matches!(refused, EmitError::TooLarge { max_bytes, .. } if max_bytes < 64 * MIB), "{refused:?}");
    let context = context(&server).await;
    assert_eq!(messages(&context, "shop").await, 0);
    assert!(context.get_stream("shop-parts").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_limit_of_the_server_and_emitters_side_by_side_mix_no_parts() {
    let (server, _streams) = server(64 << 10).await;
    let (one, two) = (open(&server).await, open(&server).await);
    let (first, second) = (shop(&one).await, shop(&two).await);
    tokio::join!(
        async {
            for seed in 0..5 {
                first.emit(large(seed, MIB)).await.unwrap();
            }
        },
        async {
            for seed in 5..10 {
                second.emit(large(seed, MIB)).await.unwrap();
            }
        }
    );
    let consumer = one.consumer("billing", "orders.>", quick().by_key()).unwrap();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let delivery = receive(&consumer).await;
        let seed = delivery.wave().payload()[0];
        is(&delivery, seed, MIB);
        seen.push((delivery.position(), seed));
        delivery.ack().await.unwrap();
    }
    assert!(seen.is_sorted(), "one key, one order: {seen:?}");
    seen.sort_by_key(|(_, seed)| *seed);
    assert!((0..10).eq(seen.iter().map(|(_, seed)| *seed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_whose_parts_are_gone_is_passed_over_and_the_others_go_on() {
    let (server, _streams) = server(64 << 10).await;
    let log = open(&server).await;
    let shop = shop(&log).await;
    let receipt = shop.emit(large(1, MIB)).await.unwrap();
    assert_eq!(receipt.receivers, Some(0));
    let context = context(&server).await;
    context.get_stream("shop-parts").await.unwrap().purge().await.unwrap();
    shop.emit(large(2, MIB)).await.unwrap();
    for by_key in [false, true] {
        let options = if by_key { quick().by_key() } else { quick() };
        let consumer = log.consumer(&format!("by-key-{by_key}"), "orders.>", options).unwrap();
        let delivery = receive(&consumer).await;
        is(&delivery, 2, MIB);
        delivery.ack().await.unwrap();
        let account = consumer.account().await.unwrap();
        assert_eq!((account.acknowledged, account.expired, account.waiting), (1, 1, 0), "{account:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_of_the_same_wave_is_stored_once_and_leaves_no_parts() {
    let (server, _streams) = server(64 << 10).await;
    let (log, context) = (open(&server).await, context(&server).await);
    let shop = shop(&log).await;
    let wave = large(1, MIB).identified(WaveId { source: shop.source().clone(), sequence: 7 }, None);
    // An outbox does so after a crash.
    let first = shop.emit_identified(wave.clone()).await.unwrap();
    let kept = messages(&context, "shop-parts").await;
    let second = shop.emit_identified(wave).await.unwrap();
    assert_eq!((position(&first), position(&second)), (1, 1));
    assert_eq!((messages(&context, "shop").await, messages(&context, "shop-parts").await), (1, kept));
    let consumer = billing(&log).await;
    let delivery = receive(&consumer).await;
    is(&delivery, 1, MIB);
    delivery.ack().await.unwrap();
    assert_eq!(consumer.account().await.unwrap().acknowledged, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_dead_letter_is_listed_replayed_and_dropped_with_its_parts() {
    for keys in [None, Some(SealKeys::generate().unwrap())] {
        let (server, _streams) = server(64 << 10).await;
        let nats = keys.map_or_else(NatsOptions::default, |keys| NatsOptions::default().keys(keys));
        let (log, context) = (open_with(&server, nats).await, context(&server).await);
        let shop = shop(&log).await;
        let durable = DurableLog::from(log.clone());
        shop.emit(large(1, MIB)).await.unwrap();
        let consumer = billing(&log).await;
        for round in 1..=3 {
            for _ in 0..2 {
                let delivery = receive(&consumer).await;
                is(&delivery, 1, MIB);
                delivery.nack("no ink");
            }
            none_until(&consumer, async || durable.dead().given_up()["billing"] == round).await;
            let numbers = log.dead().numbers().await.unwrap();
            let letters = log.dead().after(0, 10).await.unwrap();
            assert_eq!((numbers.len(), letters.len()), (1, 1));
            assert!(letters[0].stored.wave.payload() == &content(1, MIB));
            let account = consumer.account().await.unwrap();
            assert_eq!((account.dead, account.expired), (1, 0), "{account:?}");
            match round {
                1 => drop(log.dead().replay(numbers[0], &shop).await.unwrap()),
                2 => drop(log.dead().store_again(numbers[0]).await.unwrap()),
                _ => log.dead().drop_letter(numbers[0]).await.unwrap(),
            }
            assert_eq!(log.dead().numbers().await.unwrap(), [0; 0]);
            assert_eq!(messages(&context, "shop-dead").await, 0, "nothing is left of round {round}");
        }
    }
}

/// The wave of a number, in the name of the process that is killed.
fn numbered(number: u64) -> Wave {
    let source = Source::with_instance("shop", 7).unwrap();
    large(u8::try_from(number).unwrap(), MIB).identified(WaveId { source, sequence: number }, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn emits_large_waves_until_it_is_killed() {
    let log = killing::open(&std::env::var("AETHER_LOG_SERVER").unwrap()).await;
    let shop = shop(&log).await;
    for number in 1.. {
        shop.emit_identified(numbered(number)).await.unwrap();
        say(format_args!("stored {number} ."));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_wave_comes_once_and_whole_after_its_emitter_was_killed_and_tried_again() {
    for round in 0..4 {
        let (server, _streams) = server(64 << 10).await;
        let emits = "durable::large::emits_large_waves_until_it_is_killed";
        let stored = run_and_kill(emits, ("AETHER_LOG_SERVER", server.url().as_ref()), round, 8);
        let log = killing::open(&server.url()).await;
        // An outbox begins again with what has no receipt; some had one that was not read.
        let again = stored.len() as u64;
        for number in again..again + 3 {
            shop(&log).await.emit_identified(numbered(number)).await.unwrap();
        }
        let consumer = billing(&log).await;
        let mut numbers = Vec::new();
        while numbers.last() != Some(&(again + 2)) {
            let delivery = receive(&consumer).await;
            numbers.push(delivery.wave().sequence());
            let seed = u8::try_from(delivery.wave().sequence()).unwrap();
            is(&delivery, seed, MIB);
            delivery.ack().await.unwrap();
        }
        assert!(numbers.iter().copied().eq(1..again + 3), "round {round}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_for_later_is_as_large_as_a_message_at_most() {
    let (server, _streams) = server(64 << 10).await;
    let log = open(&server).await;
    let later = Wave::builder("orders.created").kind(Kind::Event).bytes(content(1, MIB));
    let refused = shop(&log).await.emit(later.after(Duration::from_secs(3600))).await.unwrap_err();
    assert!(matches!(refused, EmitError::NotStored(_)), "{refused:?}");
    shop(&log).await.emit(order("small", 0.5)).await.unwrap();
}
