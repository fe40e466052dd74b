//! Logs in JetStream as another process sees them, which reads only.

use std::num::NonZeroU32;
use std::time::Duration;

use aether::nats::NatsOptions;
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Durability, Pattern};
use aether_log::{DeadError, JetStreamError, JetStreamLog, JetStreamStanding, JetStreamView, StreamEffort};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;

use crate::durable::stage::{none_until, options, order, quick, receive};

async fn server(settings: &[(&str, &str)], streams: &tempfile::TempDir) -> NatsServer {
    let options = ServerOptions::default().jetstream(streams.path());
    let options = settings.iter().fold(options, |options, (name, value)| options.setting(name, value));
    NatsServer::start_with(options).await.unwrap()
}

/// A log with `waves` waves.
async fn log(url: &str, name: &str, waves: u64) -> JetStreamLog {
    let log = JetStreamLog::builder(url, name).options(options().max_bytes(1 << 20));
    let log = log.channels("orders.>", Durability::Stored).unwrap().open().await.unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    for number in 0..waves {
        aether.emitter("shop").unwrap().emit(order(number.to_string(), 0.5)).await.unwrap();
    }
    log
}

async fn standing(url: &str, effort: StreamEffort) -> Result<JetStreamStanding, JetStreamError> {
    JetStreamView::open(url, NatsOptions::default()).await?.standing(effort).await
}

async fn context(url: &str) -> jetstream::Context {
    jetstream::new(async_nats::connect(url).await.unwrap())
}

/// A consumer as Aether makes them, whose deliveries the test takes itself.
async fn consumer(context: &jetstream::Context, stream: &str, name: &str) -> PullConsumer {
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        ack_policy: AckPolicy::Explicit,
        filter_subject: format!("aether-log.{stream}.orders.*"),
        ..pull::Config::default()
    };
    context.get_stream(stream).await.unwrap().create_consumer(config).await.unwrap()
}

async fn take(consumer: &PullConsumer, most: usize) -> Vec<jetstream::Message> {
    let messages = consumer.batch().max_messages(most).expires(Duration::from_secs(20)).messages();
    messages.await.unwrap().map(Result::unwrap).take(most).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_their_consumers_are_listed_with_what_waits_and_nothing_of_others() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let url = server.url();
    let none = standing(&url, StreamEffort::default()).await.unwrap();
    assert_eq!((none.logs.len(), none.more_logs), (0, 0));
    let (_shop, till) = (log(&url, "shop", 20).await, log(&url, "till", 1).await);
    let context = context(&url).await;
    // Streams of somebody else: beside the subjects of logs, and on some of them.
    for (name, subject) in [("theirs", "other.>"), ("near", "aether-log.near")] {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            ..stream::Config::default()
        };
        context.create_stream(config).await.unwrap();
    }

    let billing = consumer(&context, "shop", "billing").await;
    let taken = take(&billing, 3).await;
    taken[0].double_ack().await.unwrap();
    // The server answers once it has taken the refusal in.
    let reply = taken[1].reply.clone().unwrap();
    context.client().request(reply, "-NAK".into()).await.unwrap();
    let again = take(&billing, 1).await;
    assert_eq!(again[0].info().unwrap().stream_sequence, 2, "it came again");
    consumer(&context, "shop", "audit").await;
    // A temporary consumer that only counts does not belong to the log.
    let ephemeral = pull::Config { name: Some("count".to_owned()), ..pull::Config::default() };
    context.get_stream("shop").await.unwrap().create_consumer(ephemeral).await.unwrap();
    // A wave of the other log is given up.
    let once = quick().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO);
    let cash = till.consumer("cash", "orders.>", once).unwrap();
    receive(&cash).await.nack("no money");
    none_until(&cash, async || !till.dead().numbers().await.unwrap().is_empty()).await;

    let all = standing(&url, StreamEffort::default()).await.unwrap();
    let names: Vec<_> = all.logs.keys().map(String::as_str).collect();
    assert_eq!((names, all.more_logs), (vec!["shop", "till"], 0));
    let shop = all.logs["shop"].as_ref().unwrap();
    assert_eq!((shop.first, shop.last, shop.waves, shop.replicas), (1, 20, 20, 1));
    assert_eq!((shop.max_bytes, shop.max_waves, shop.max_age), (Some(1 << 20), None, None));
    assert!(shop.bytes > 1000 && shop.oldest.unwrap() <= shop.newest.unwrap(), "{shop:?}");
    let names: Vec<_> = shop.consumers.iter().map(|consumer| consumer.name.as_str()).collect();
    assert_eq!((names, shop.dead), (vec!["audit", "billing"], Some(0)));
    let [audit, billing] = shop.consumers.as_slice() else { panic!("{shop:?}") };
    assert_eq!((audit.lag, audit.in_flight, audit.position, audit.last_acknowledged), (20, 0, 0, None));
    assert_eq!((billing.lag, billing.in_flight, billing.redelivered), (19, 2, 1), "{billing:?}");
    assert_eq!((billing.position, billing.delivered), (1, 3));
    assert_eq!(billing.pattern, Some(Pattern::new("orders.*").unwrap()));
    assert!(billing.last_acknowledged.is_some());
    let till = all.logs["till"].as_ref().unwrap();
    let cash = &till.consumers[0];
    assert_eq!((till.dead, cash.dead, cash.name.as_str()), (Some(1), Some(1), "cash"), "{cash:?}");
}

/// The server's number, of a consumer of Aether: waves that were delivered again count while they are in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_that_failed_counts_as_redelivered_from_its_second_attempt_until_it_is_acknowledged() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let url = server.url();
    let shop = log(&url, "shop", 1).await;
    let cash = shop.consumer("cash", "orders.>", quick()).unwrap();
    let counts = async || {
        let all = standing(&url, StreamEffort::default()).await.unwrap();
        let cash = &all.logs["shop"].as_ref().unwrap().consumers[0];
        (cash.in_flight, cash.redelivered, cash.retrying)
    };
    let first = receive(&cash).await;
    assert_eq!(counts().await, (1, 0, Some(0)));
    first.nack("no money");
    for attempt in [2, 3] {
        let again = receive(&cash).await;
        assert_eq!((again.attempt(), counts().await), (attempt, (1, 1, Some(1))));
        again.nack("no money");
    }
    receive(&cash).await.ack().await.unwrap();
    assert_eq!(counts().await, (0, 0, Some(0)));
}

/// The server would deliver a wave that is given back to the request of the consumer that gives it back, and a client
/// forgets what it has not written when it ends. Nobody would have such a wave until its time was over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_get_at_once_what_a_consumer_that_ends_did_not_handle() {
    const WAVES: u64 = 1_000;
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let url = server.url();
    for round in 0..2 {
        let name = format!("shop-{round}");
        let open = async || {
            // Longer than the test waits.
            let log =
                JetStreamLog::builder(&url, &name).options(options().ack_wait(Duration::from_secs(600)));
            log.channels("orders.>", Durability::Stored).unwrap().open().await.unwrap()
        };
        let log = open().await;
        let aether = log.connect(aether::builder().url("local:")).await.unwrap();
        for number in 0..WAVES {
            aether.emitter("shop").unwrap().emit(order(number.to_string(), 0.5)).await.unwrap();
        }
        let ending = log.consumer("billing", "orders.>", quick()).unwrap();
        receive(&ending).await.ack().await.unwrap();
        let in_flight = async || {
            let all = standing(&url, StreamEffort::default()).await.unwrap();
            all.logs[&name].as_ref().unwrap().consumers[0].in_flight
        };
        while in_flight().await < WAVES - 1 {
            tokio::task::yield_now().await;
        }
        drop((ending, log, aether));
        let other = open().await.consumer("billing", "orders.>", quick()).unwrap();
        for _ in 1..WAVES {
            receive(&other).await.ack().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_is_bounded_and_what_is_left_out_is_counted() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let url = server.url();
    let _logs = [log(&url, "one", 0).await, log(&url, "two", 0).await, log(&url, "zero", 0).await];
    let context = context(&url).await;
    // More than a page of the server.
    for number in 0..300 {
        consumer(&context, "one", &format!("c{number:03}")).await;
    }
    let some = standing(&url, StreamEffort::default().max_logs(2).max_consumers(40)).await.unwrap();
    assert_eq!((some.logs.len(), some.more_logs), (2, 1));
    let one = some.logs["one"].as_ref().unwrap();
    assert_eq!((one.consumers.len(), one.more_consumers, &*one.consumers[39].name), (40, 260, "c039"));
    let all = standing(&url, StreamEffort::default().max_consumers(1000)).await.unwrap();
    let one = all.logs["one"].as_ref().unwrap();
    assert_eq!((one.consumers.len(), one.more_consumers, &*one.consumers[299].name), (300, 0, "c299"));
    let none = standing(&url, StreamEffort::default().time(Duration::ZERO)).await.unwrap();
    assert_eq!((none.logs.len(), none.more_logs), (0, 3), "the time was over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_jetstream_and_a_missing_permission_are_named() {
    let plain = NatsServer::start().await.unwrap();
    let refused = standing(&plain.url(), StreamEffort::default()).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::NoJetStream { .. }), "{refused:?}");
    let streams = tempfile::tempdir().unwrap();
    let user = |name: &str, denied: &str| {
        format!("{{user: {name}, password: s, permissions: {{publish: {{deny: [\"{denied}\"]}}}}}}")
    };
    let users = [
        user("all", "nothing"),
        user("names", "$JS.API.STREAM.NAMES"),
        user("none", "$JS.API.>"),
        user("info", "$JS.API.STREAM.INFO.shop"),
    ];
    let users = format!("{{users: [{}]}}", users.join(", "));
    let server = server(&[("authorization", &users)], &streams).await;
    let url = |user: &str| format!("nats://{user}:s@127.0.0.1:{}", server.port());
    let _log = log(&url("all"), "shop", 1).await;
    for user in ["names", "none"] {
        let refused = standing(&url(user), StreamEffort::default()).await.unwrap_err();
        let JetStreamError::NotPermitted { subject } = &refused else { panic!("{refused:?}") };
        assert_eq!(subject, "$JS.API.STREAM.NAMES");
    }
    // An error about one log is with that log.
    let of_info = standing(&url("info"), StreamEffort::default()).await.unwrap();
    assert!(matches!(&of_info.logs["shop"], Err(JetStreamError::NotPermitted { .. })), "{of_info:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_read_letters_are_stored_again_or_dropped_and_a_consumer_is_forgotten() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let url = server.url();
    let shop = log(&url, "shop", 5).await;
    let once = quick().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO);
    let cash = shop.consumer("cash", "orders.>", once).unwrap();
    receive(&cash).await.nack("no money");
    receive(&cash).await.nack("no change");
    // Giving up happens while the next one is waited for.
    let mut held = vec![receive(&cash).await];
    let mut are_letters = std::pin::pin!(async {
        while shop.dead().numbers().await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    loop {
        tokio::select! {
            next = cash.receive() => held.push(next.unwrap()),
            () = &mut are_letters => break,
        }
    }
    let view = JetStreamView::open(&url, NatsOptions::default()).await.unwrap();
    let waiting = view.waves("shop", &Pattern::new("orders.>").unwrap(), 3, 2).await.unwrap();
    let read: Vec<_> = waiting.iter().map(|stored| (stored.position, stored.wave.text().unwrap())).collect();
    assert_eq!(read, [(3, "2"), (4, "3")]);
    let others = view.waves("shop", &Pattern::new("notes.>").unwrap(), 1, 9).await.unwrap();
    assert!(others.is_empty());

    let letters = view.letters("shop").unwrap();
    let both = letters.after(0, 9).await.unwrap();
    let reasons: Vec<_> = both.iter().map(|letter| letter.failed[0].error.as_str()).collect();
    assert_eq!(reasons, ["no money", "no change"]);
    assert_eq!(letters.after(both[0].number, 9).await.unwrap().len(), 1);
    let position = letters.store_again(both[0].number).await.unwrap();
    let again = view.waves("shop", &Pattern::everything(), position, 1).await.unwrap();
    assert_eq!((position, again[0].wave.text().unwrap()), (6, "0"));
    letters.drop_letter(both[1].number).await.unwrap();
    assert!(letters.numbers().await.unwrap().is_empty());
    assert!(matches!(letters.store_again(both[0].number).await, Err(DeadError::Unknown { .. })));

    drop((held, cash));
    assert!(view.forget_consumer("shop", "cash").await.unwrap());
    assert!(!view.forget_consumer("shop", "cash").await.unwrap());
    assert!(!view.forget_consumer("shop", "cash.>").await.unwrap(), "no name of a consumer");
    for (name, is_name) in [("other", true), ("shop.>", false)] {
        let refused = view.forget_consumer(name, "cash").await.unwrap_err();
        let is_expected = match &refused {
            JetStreamError::NoLog { .. } => is_name,
            JetStreamError::Name { .. } => !is_name,
            _ => false,
        };
        assert!(is_expected, "{refused}");
    }
    // A stream of somebody else does not count as a log.
    let config = stream::Config {
        name: "theirs".to_owned(),
        subjects: vec!["other.>".to_owned()],
        ..stream::Config::default()
    };
    context(&url).await.create_stream(config).await.unwrap();
    assert!(matches!(view.forget_consumer("theirs", "x").await, Err(JetStreamError::NoLog { .. })));
}
