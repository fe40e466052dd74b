//! Order by key: the promises on each kind of log, and two processes of a consumer in JetStream.

use std::num::NonZeroU32;
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability, Wave};
use aether_log::{ConsumeError, Consumer, ConsumerOptions, DurableLog, JetStreamError, JetStreamLog};
use async_nats::jetstream::consumer::{PriorityPolicy, pull};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::durable::stage::{Place, connect, none_until, options, quick, receive, text};

/// Emits one wave after the other: the text is a number, and the key is given.
async fn emit(aether: &Aether, waves: impl IntoIterator<Item = (u64, &str)>) {
    let shop = aether.emitter("shop").unwrap();
    for (number, key) in waves {
        let wave = Wave::builder("orders.created").key(key).text(number.to_string());
        shop.emit(wave.build().unwrap()).await.unwrap();
    }
}

fn by_key(log: &DurableLog, options: ConsumerOptions) -> Consumer {
    log.consumer("billing", "orders.>", options.by_key()).unwrap()
}

pub(crate) async fn d16_each_key_is_in_order_and_a_failed_wave_holds_its_key_only(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    emit(&aether, [(0, "a"), (1, "b"), (2, "a"), (3, "b"), (4, "a"), (5, "c")]).await;
    let pause = Duration::from_millis(300);
    let consumer = by_key(&log, ConsumerOptions::default().pauses(pause, pause));
    let [first, second, third] =
        [receive(&consumer).await, receive(&consumer).await, receive(&consumer).await];
    assert_eq!([&first, &second, &third].map(text), ["0", "1", "5"], "one of each key");
    let failed_at = tokio::time::Instant::now();
    first.nack("later");
    second.ack().await.unwrap();
    let next = receive(&consumer).await;
    assert_eq!(text(&next), "3", "the key of the one that failed is held");
    third.ack().await.unwrap();
    let again = receive(&consumer).await;
    assert_eq!((text(&again), again.attempt()), ("0".to_owned(), 2));
    assert!(failed_at.elapsed() >= pause, "{:?}", failed_at.elapsed());
    again.ack().await.unwrap();
    next.ack().await.unwrap();
    for number in ["2", "4"] {
        let delivery = receive(&consumer).await;
        assert_eq!((text(&delivery), delivery.attempt()), (number.to_owned(), 1));
        delivery.ack().await.unwrap();
    }
    let account = consumer.account().await.unwrap();
    assert_eq!((account.acknowledged, account.waiting, account.in_flight), (6, 0, 0), "{account:?}");
}

pub(crate) async fn d17_a_wave_that_goes_back_or_is_given_up_lets_its_key_go_on(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    emit(&aether, (0..5).map(|number| (number, "a"))).await;
    let consumer = by_key(&log, quick().max_attempts(NonZeroU32::new(2).unwrap()));
    for _ in 0..3 {
        let delivery = receive(&consumer).await;
        assert_eq!((text(&delivery), delivery.attempt()), ("0".to_owned(), 1), "no attempt is counted");
        delivery.release();
    }
    receive(&consumer).await.give_up("no ink at all");
    let delivery = receive(&consumer).await;
    assert_eq!(text(&delivery), "1");
    drop(delivery);
    let delivery = receive(&consumer).await;
    assert_eq!((text(&delivery), delivery.attempt()), ("1".to_owned(), 2));
    delivery.nack("no paper");
    let delivery = receive(&consumer).await;
    assert_eq!(text(&delivery), "2");
    assert_eq!(log.dead().numbers().await.unwrap().len(), 2);
    // Held across a restart, and in front of those behind it.
    delivery.nack("later");
    let delivery = receive(&consumer).await;
    delivery.release();
    consumer.close().await;
    drop((aether, log));
    let log = place.open().await;
    let consumer = by_key(&log, quick().max_attempts(NonZeroU32::new(2).unwrap()));
    for (number, attempt) in [("2", 2), ("3", 1), ("4", 1)] {
        let delivery = receive(&consumer).await;
        assert_eq!((text(&delivery), delivery.attempt()), (number.to_owned(), attempt));
        delivery.ack().await.unwrap();
    }
}

pub(crate) async fn server(streams: &TempDir) -> NatsServer {
    NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap()
}

pub(crate) async fn member(url: &str, ack_wait: Duration) -> DurableLog {
    let log = JetStreamLog::builder(url, "shop").options(options().ack_wait(ack_wait));
    log.channels("orders.>", Durability::Stored).unwrap().open().await.unwrap().into()
}

/// So long that nothing comes again because of it.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_handles_at_a_time_and_the_next_one_goes_on_at_once_when_it_ends() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&streams).await;
    let (first, second) = (member(&server.url(), LONG).await, member(&server.url(), LONG).await);
    let aether = connect(&first).await;
    emit(&aether, (0..40).map(|number| (number, ["a", "b"][number as usize % 2]))).await;
    let handling = by_key(&first, quick());
    let in_flight = [receive(&handling).await, receive(&handling).await];
    assert_eq!(in_flight.each_ref().map(text), ["0", "1"]);
    let standing_by = by_key(&second, quick());
    standing_by.ready().await.unwrap();
    for (number, delivery) in in_flight.into_iter().enumerate() {
        delivery.ack().await.unwrap();
        let next = receive(&handling).await;
        assert_eq!(text(&next), (number + 2).to_string());
        // The second of them is still in flight when the member ends.
        if number == 0 {
            next.ack().await.unwrap();
        } else {
            let waiting = tokio::spawn(async move { receive(&standing_by).await });
            let ending = tokio::spawn(handling.close());
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished() && !ending.is_finished());
            next.ack().await.unwrap();
            ending.await.unwrap();
            let next = waiting.await.unwrap();
            assert_eq!((text(&next), next.attempt()), ("4".to_owned(), 1));
            next.ack().await.unwrap();
            break;
        }
    }
    let handling = by_key(&second, quick());
    for number in 5..40 {
        let delivery = receive(&handling).await;
        assert_eq!((text(&delivery), delivery.attempt()), (number.to_string(), 1));
        delivery.ack().await.unwrap();
    }
    none_until(&handling, async || handling.account().await.unwrap().waiting == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_elsewhere_is_waited_for_and_a_late_acknowledgement_ends_the_wait() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&streams).await;
    let (first, second) = (member(&server.url(), LONG).await, member(&server.url(), LONG).await);
    let aether = connect(&first).await;
    emit(&aether, (0..6).map(|number| (number, "a"))).await;
    let handling = by_key(&first, quick());
    let running = receive(&handling).await;
    let standing_by = by_key(&second, quick());
    standing_by.ready().await.unwrap();
    // Somebody takes the pin from the first one, whose handler runs on.
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream("shop").await.unwrap();
    let info = async || stream.consumer_info("billing").await.unwrap();
    none_until(&standing_by, async || info().await.num_ack_pending == 6).await;
    let before = info().await.priority_groups[0].pinned_client_id.clone();
    stream.unpin_consumer("billing", "by-key").await.unwrap();
    // Its other waves go to the next one, which begins none of them.
    drop(handling);
    let has_the_others = async || {
        let info = info().await;
        info.priority_groups[0].pinned_client_id != before && info.num_redelivered == 5
    };
    none_until(&standing_by, has_the_others).await;
    running.ack().await.unwrap();
    for number in 1..6 {
        let delivery = receive(&standing_by).await;
        assert_eq!(text(&delivery), number.to_string());
        delivery.ack().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_with_another_order_is_named_and_can_be_changed() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&streams).await;
    let log = member(&server.url(), LONG).await;
    log.consumer("billing", "orders.>", quick()).unwrap().ready().await.unwrap();
    let log = member(&server.url(), LONG).await;
    let refused = by_key(&log, quick()).ready().await.unwrap_err();
    let ConsumeError::Server(JetStreamError::OtherSettings { setting, found, wanted, .. }) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!((*setting, found.as_str(), wanted.as_str()), ("priority_policy", "None", "PinnedClient"));
    // As an operator changes it.
    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("shop").await.unwrap();
    let mut consumer = stream.get_consumer::<pull::Config>("billing").await.unwrap();
    let mut config = consumer.info().await.unwrap().config.clone();
    config.priority_policy = PriorityPolicy::PinnedClient;
    config.priority_groups = vec!["by-key".to_owned()];
    config.priority_timeout = LONG;
    config.max_ack_pending = 8192;
    stream.update_consumer(config).await.unwrap();
    let consumer = by_key(&log, quick());
    emit(&connect(&log).await, [(7, "a")]).await;
    assert_eq!(text(&receive(&consumer).await), "7");
    let other = member(&server.url(), LONG).await;
    let refused = other.consumer("billing", "orders.>", quick()).unwrap().ready().await.unwrap_err();
    assert!(refused.to_string().contains("priority_policy = PinnedClient"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_pin_a_client_is_named() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&streams).await;
    // In front of the server, so that it seems to be an older one.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, port) = (format!("nats://{}", listener.local_addr().unwrap()), server.port());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let mut greeting = Vec::new();
                while !greeting.ends_with(b"\r\n") {
                    greeting.push(server.read_u8().await.unwrap());
                }
                let greeting = String::from_utf8(greeting).unwrap();
                let (before, after) = greeting.split_once("\"version\":\"").unwrap();
                let (_, after) = after.split_once('"').unwrap();
                let old = format!("{before}\"version\":\"2.10.29\"{after}");
                client.write_all(old.as_bytes()).await.unwrap();
                drop(copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    let log = member(&url, LONG).await;
    let refused = by_key(&log, quick()).ready().await.unwrap_err();
    assert!(matches!(&refused, ConsumeError::ByKey { version } if version == "2.10.29"), "{refused:?}");
    log.consumer("billing", "orders.>", quick()).unwrap().ready().await.unwrap();
}
