//! Refusals of a server, and servers that are away: typed errors, and nothing lost.

use std::time::{Duration, Instant};

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::EmitError;
use aether_core::{Aether, Durability, Vibrator, Wave};
use aether_log::store::{AppendError, OpenError};
use aether_log::{
    ConsumeError, JetStreamError, JetStreamLog, JetStreamOptions, Log, LogWarning, NotAcknowledged,
};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{self, DiscardPolicy};

use crate::durable::stage::{ACK_WAIT, options, order, position, quick, receive, text};

async fn server(settings: &[(&str, &str)], streams: &tempfile::TempDir) -> NatsServer {
    let options = ServerOptions::default().jetstream(streams.path());
    let options = settings.iter().fold(options, |options, (name, value)| options.setting(name, value));
    NatsServer::start_with(options).await.unwrap()
}

async fn open_with(url: &str, options: JetStreamOptions) -> Result<JetStreamLog, JetStreamError> {
    let log = JetStreamLog::builder(url, "shop").options(options);
    log.channels("orders.>", Durability::Stored).unwrap().open().await
}

async fn connect(log: &JetStreamLog) -> Aether {
    log.connect(aether::builder().url("local:")).await.unwrap()
}

/// The reason, and the wave that came back.
fn not_stored(error: EmitError) -> (JetStreamError, bool, Wave) {
    let EmitError::NotStored(not_stored) = error else { panic!("{error:?}") };
    let reason = not_stored.source.downcast_ref::<JetStreamError>().cloned();
    let reason = reason.unwrap_or_else(|| panic!("{:?}", not_stored.source));
    (reason, not_stored.is_transient, not_stored.wave)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_other_settings_is_named_with_both_values_and_not_changed() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let open = |options| open_with(&*server.url().leak(), options);
    drop(open(options().max_bytes(1 << 20)).await.unwrap());
    let refused = open(options().max_bytes(2 << 20)).await.unwrap_err();
    let JetStreamError::OtherSettings { kind, name, setting, found, wanted } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!((*kind, name.as_str(), *setting), ("stream", "shop", "max_bytes"));
    assert_eq!((found.as_str(), wanted.as_str()), ("1048576", "2097152"));
    let message = refused.to_string();
    assert!(message.contains("shop") && message.contains("nats stream edit"), "{message}");
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    assert_eq!(context.get_stream("shop").await.unwrap().cached_info().config.max_bytes, 1 << 20);
    // Any other setting that a promise depends on.
    type Change = fn(&mut stream::Config);
    let others: [(&str, Change); 3] = [
        ("subjects", |config| config.subjects.push("other".to_owned())),
        ("discard", |config| config.discard = stream::DiscardPolicy::Old),
        ("max_age", |config| config.max_age = Duration::from_secs(600)),
    ];
    for (changed, change) in others {
        let mut config = context.get_stream("shop").await.unwrap().cached_info().config.clone();
        let before = config.clone();
        change(&mut config);
        context.update_stream(&config).await.unwrap();
        let refused = open(options().max_bytes(1 << 20)).await.unwrap_err();
        let is_named = |setting: &str| setting == changed;
        assert!(
            matches!(refused, JetStreamError::OtherSettings { setting, .. } if is_named(setting)),
            "{changed}: {refused:?}"
        );
        context.update_stream(&before).await.unwrap();
    }
    drop(open(options().max_bytes(1 << 20)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_window_is_given_to_a_stream_and_a_shorter_one_leaves_it() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let (short, long) = (Duration::from_secs(60), Duration::from_secs(300));
    let open = async |window| open_with(&server.url(), options().duplicate_window(window)).await.unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let earlier = open(short).await;
    for window in [long, short] {
        let later = open(window).await;
        let found = context.get_stream("shop").await.unwrap().cached_info().config.clone();
        assert_eq!(found.duplicate_window, long);
        earlier.ready().await.unwrap();
        later.ready().await.unwrap();
    }
    // Nothing is raised where another setting differs.
    let longer = options().duplicate_window(2 * long).max_waves(5);
    let refused = open_with(&server.url(), longer).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::OtherSettings { setting: "max_msgs", .. }), "{refused:?}");
    let mut config = context.get_stream("shop").await.unwrap().cached_info().config.clone();
    assert_eq!(config.duplicate_window, long);
    config.duplicate_window = short;
    let later = open(long).await;
    context.update_stream(&config).await.unwrap();
    earlier.ready().await.unwrap();
    let refused = later.ready().await.unwrap_err();
    assert!(
        matches!(refused, JetStreamError::OtherSettings { setting: "duplicate_window", .. }),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_jetstream_and_a_cluster_that_is_too_small_are_named() {
    let plain = NatsServer::start().await.unwrap();
    let refused = open_with(&plain.url(), options()).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::NoJetStream { .. }), "{refused:?}");
    assert!(refused.to_string().contains("--jetstream"), "{refused}");
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let replicated = |replicas| {
        let log = JetStreamLog::builder(server.url(), "shop").options(options());
        log.channels("orders.>", Durability::Replicated(replicas)).unwrap().open()
    };
    let refused = replicated(3).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::TooFewServers { replicas: 3, .. }), "{refused:?}");
    // Also where the stream is there already, which stays as it is.
    drop(open_with(&server.url(), options()).await.unwrap());
    let refused = replicated(3).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::TooFewServers { replicas: 3, .. }), "{refused:?}");
    open_with(&server.url(), options()).await.unwrap().ready().await.unwrap();
    for replicas in [0, 1, 6] {
        let refused = replicated(replicas).await.unwrap_err();
        assert!(matches!(refused, JetStreamError::Replicas { .. }), "{refused:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = Log::builder(folder.path()).channels("orders.>", Durability::Replicated(3)).unwrap();
    let refused = log.open().unwrap_err();
    assert!(matches!(refused, OpenError::Replicated { .. }), "{refused:?}");
    for (url, name) in [("nats://user:s3cret@[::1", "shop"), (&*server.url(), "a.b"), (&*server.url(), "")] {
        let refused = JetStreamLog::builder(url, name).open().await.unwrap_err();
        assert!(matches!(refused, JetStreamError::Url { .. } | JetStreamError::Name { .. }), "{refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_hands_the_wave_back_and_goes_on_when_there_is_room() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let log = open_with(&server.url(), options().max_bytes(64 << 10)).await.unwrap();
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let mut stored = 0;
    let refused = loop {
        let wave = Wave::builder("orders.created").bytes(vec![7; 1000]).build().unwrap();
        match shop.emit(wave).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!((30..70).contains(&stored), "{stored}");
    let (reason, is_transient, wave) = not_stored(refused);
    assert!(matches!(&reason, JetStreamError::Full { stream, .. } if stream == "shop"), "{reason:?}");
    assert!(reason.to_string().contains("max_bytes"), "{reason}");
    assert!(is_transient);
    assert_eq!(wave.payload().len(), 1000);
    for _ in 0..stored {
        live.receive().await.unwrap();
    }
    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("shop").await.unwrap();
    stream.purge().await.unwrap();
    let receipt = shop.emit(wave).await.unwrap();
    assert_eq!(position(&receipt), stored + 1, "positions are not used again");
    // The refused wave was not carried either: the next wave that is heard is the stored one.
    shop.emit(order("last", 0.5)).await.unwrap();
    assert_eq!(live.receive().await.unwrap().payload().len(), 1000);
    assert_eq!(live.receive().await.unwrap().text().unwrap(), "last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_permission_is_named_at_once() {
    let streams = tempfile::tempdir().unwrap();
    let user = |name: &str, denied: &str| {
        format!("{{user: {name}, password: s, permissions: {{publish: {{deny: [\"{denied}\"]}}}}}}")
    };
    let users = [
        user("all", "nothing"),
        user("waves", "aether-log.>"),
        user("streams", "$JS.API.STREAM.>"),
        user("consumers", "$JS.API.CONSUMER.CREATE.>"),
        user("pulls", "$JS.API.CONSUMER.MSG.NEXT.>"),
        user("acks", "$JS.ACK.>"),
    ];
    let users = format!("{{users: [{}]}}", users.join(", "));
    let server = server(&[("authorization", &users)], &streams).await;
    let url = |user: &str| format!("nats://{user}:s@127.0.0.1:{}", server.port());
    let names = |error: &JetStreamError, part: &str| matches!(error, JetStreamError::NotPermitted { subject } if subject.contains(part));
    // So long that no machine takes as long without waiting for it.
    let patience = Duration::from_secs(100);
    let options = || options().patience(patience);
    let started = Instant::now();
    let refused = open_with(&url("streams"), options()).await.unwrap_err();
    assert!(names(&refused, "$JS.API.STREAM.INFO.shop"), "{refused:?}");

    let log = open_with(&url("all"), options()).await.unwrap();
    let aether = connect(&log).await;
    for number in 0..3 {
        aether.emitter("shop").unwrap().emit(order(number.to_string(), 0.5)).await.unwrap();
    }
    let log = open_with(&url("waves"), options()).await.unwrap();
    let aether = connect(&log).await;
    let refused = aether.emitter("shop").unwrap().emit(order("never", 0.5)).await.unwrap_err();
    let (reason, is_transient, wave) = not_stored(refused);
    assert!(names(&reason, "aether-log.shop.orders.created") && !is_transient, "{reason:?}");
    assert_eq!(wave.text().unwrap(), "never");

    let log = open_with(&url("consumers"), options()).await.unwrap();
    let refused = log.consumer("new", "orders.>", quick()).unwrap().receive().await.unwrap_err();
    let ConsumeError::Server(refused) = refused else { panic!("{refused:?}") };
    assert!(names(&refused, "$JS.API.CONSUMER.CREATE.shop.new"), "{refused:?}");

    let log = open_with(&url("pulls"), options()).await.unwrap();
    let refused = log.consumer("new", "orders.>", quick()).unwrap().receive().await.unwrap_err();
    let ConsumeError::Server(refused) = refused else { panic!("{refused:?}") };
    assert!(names(&refused, "$JS.API.CONSUMER.MSG.NEXT.shop.new"), "{refused:?}");

    let log = open_with(&url("acks"), options()).await.unwrap();
    let consumer = log.consumer("other", "orders.>", quick()).unwrap();
    let delivery = receive(&consumer).await;
    let refused = delivery.ack().await.unwrap_err();
    assert_eq!(refused.position, 1);
    let NotAcknowledged::Server(refused) = refused.source else { panic!("{refused:?}") };
    assert!(names(&refused, "$JS.ACK."), "{refused:?}");
    assert!(started.elapsed() < patience, "no time-out was waited for: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_whose_acknowledgement_was_lost_is_recognised_when_it_comes_again() {
    let streams = tempfile::tempdir().unwrap();
    // The server ignores acknowledgements of this user.
    let users = "{users: [{user: acks, password: s, permissions: {publish: {deny: [\"$JS.ACK.>\"]}}}]}";
    let server = server(&[("authorization", users)], &streams).await;
    let url = format!("nats://acks:s@127.0.0.1:{}", server.port());
    let log = open_with(&url, options().ack_wait(Duration::from_millis(500))).await.unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 0..3 {
        shop.emit(order(number.to_string(), 0.5)).await.unwrap();
    }
    let client = async_nats::ConnectOptions::with_user_and_password("acks".to_owned(), "s".to_owned());
    let client = client.connect(server.url()).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    let mut handled = Vec::new();
    let handling = consumer.handle(async |delivery: &aether_log::Delivery| {
        handled.push(text(delivery));
        Ok::<_, String>(())
    });
    let redelivered = async {
        let stream = async_nats::jetstream::new(client).get_stream("shop").await.unwrap();
        let mut every = tokio::time::interval(Duration::from_millis(100));
        // The server tells of redeliveries in no other way.
        loop {
            every.tick().await;
            let info = stream.consumer_info("billing").await;
            if info.is_ok_and(|info| info.delivered.consumer_sequence >= 9) {
                return;
            }
        }
    };
    tokio::select! {
        ended = handling => panic!("{ended:?}"),
        () = redelivered => {}
        () = tokio::time::sleep(Duration::from_secs(180)) => panic!("nothing was delivered again"),
    }
    assert_eq!(handled, ["0", "1", "2"], "each was delivered three times and handled once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_with_other_settings_is_named_and_not_changed() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let log = open_with(&server.url(), options()).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("shop").await.unwrap();
    let config = pull::Config {
        durable_name: Some("billing".to_owned()),
        filter_subject: "aether-log.shop.orders.>".to_owned(),
        max_deliver: 3,
        ack_wait: ACK_WAIT,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    let refused = consumer.receive().await.unwrap_err();
    let ConsumeError::Server(JetStreamError::OtherSettings { kind, name, setting, found, wanted }) = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((kind, name.as_str(), setting), ("consumer", "billing", "max_deliver"));
    assert_eq!((found.as_str(), wanted.as_str()), ("3", "-1"));
    assert_eq!(stream.consumer_info("billing").await.unwrap().config.max_deliver, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_deleted_is_reported_and_begins_anew_when_it_is_used_again() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let log = open_with(&server.url(), options()).await.unwrap();
    let aether = connect(&log).await;
    aether.emitter("shop").unwrap().emit(order("0", 0.5)).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    receive(&consumer).await.ack().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("shop").await.unwrap();
    let (refused, deleted) = tokio::join!(consumer.receive(), stream.delete_consumer("billing"));
    assert!(deleted.unwrap().success);
    let refused = refused.unwrap_err();
    assert!(matches!(refused, ConsumeError::Server(JetStreamError::Deleted { .. })), "{refused:?}");
    aether.emitter("shop").unwrap().emit(order("1", 0.5)).await.unwrap();
    // The first was acknowledged here, and is not handed out a second time.
    assert_eq!(text(&receive(&consumer).await), "1");
}

/// A setting of a stream that an operator has changed, and a stream that is gone, while a program uses the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_a_stream_is_seen_and_one_that_is_made_again_is_used() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    // It is waited for once, and all that succeeds takes less.
    let patience = Duration::from_secs(10);
    let limited = || options().patience(patience).max_waves(100);
    let log = open_with(&server.url(), limited()).await.unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(order("0", 0.5)).await.unwrap();
    log.ready().await.unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    // It would drop waves that nobody has read.
    let mut config = context.get_stream("shop").await.unwrap().cached_info().config.clone();
    config.discard = DiscardPolicy::Old;
    context.update_stream(&config).await.unwrap();
    let changed = log.ready().await.unwrap_err();
    assert!(matches!(&changed, JetStreamError::OtherSettings { setting: "discard", .. }), "{changed:?}");

    context.delete_stream("shop").await.unwrap();
    let error = shop.emit(order("1", 0.5)).await.unwrap_err();
    assert!(error.to_string().contains("not stored"), "{error}");
    assert!(log.ready().await.is_err() && log.trouble().is_some());
    // Another process opens the log, and so makes it.
    let _other = open_with(&server.url(), limited()).await.unwrap();
    let receipt = shop.emit(order("1", 0.5)).await.unwrap();
    assert_eq!(receipt.stored.unwrap().position.get(), 1);
    assert!(log.trouble().is_none());
    log.ready().await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    assert_eq!(text(&receive(&consumer).await), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synced_is_said_only_where_the_servers_are_known_to_sync() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[("jetstream", "{sync_interval: always}")], &streams).await;
    for (is_known, reached) in [(false, Durability::Stored), (true, Durability::Synced)] {
        let log =
            JetStreamLog::builder(server.url(), "shop").options(options().servers_sync_always(is_known));
        let log = log.channels("orders.>", Durability::Synced).unwrap().open().await.unwrap();
        let warned = log.warnings().contains(&LogWarning::NotSynced { reached: Durability::Stored });
        assert_eq!(warned, !is_known, "{:?}", log.warnings());
        let aether = connect(&log).await;
        let receipt = aether.emitter("shop").unwrap().emit(order("0", 0.5)).await.unwrap();
        assert_eq!(receipt.stored.unwrap().durability, reached);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_copy_of_a_wave_is_not_stored() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let log = open_with(&server.url(), options()).await.unwrap();
    let aether = connect(&log).await;
    aether.emitter("shop").unwrap().emit(order("0", 0.5)).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream("shop").await.unwrap();
    let first = stream.get_raw_message(1).await.unwrap();
    assert!(first.headers.get(async_nats::header::NATS_MESSAGE_ID).is_some());
    // As after an answer that was lost.
    let again = context.publish_with_headers(first.subject, first.headers, first.payload).await;
    let again = again.unwrap().await.unwrap();
    assert!(again.duplicate && again.sequence == 1, "{again:?}");
    assert_eq!(stream.get_info().await.unwrap().state.messages, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emit_and_a_consumer_go_on_when_the_server_is_back() {
    let streams = tempfile::tempdir().unwrap();
    let mut server = server(&[], &streams).await;
    let log = open_with(&server.url(), options().patience(Duration::from_secs(120))).await.unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    shop.emit(order("before", 0.5)).await.unwrap();
    let held = receive(&consumer).await;
    server.kill().await.unwrap();
    let emitting = tokio::spawn(async move { shop.emit(order("meanwhile", 0.5)).await });
    let acknowledging = tokio::spawn(held.ack());
    server.restart().await.unwrap();
    assert_eq!(position(&emitting.await.unwrap().unwrap()), 2);
    acknowledging.await.unwrap().unwrap();
    assert_eq!(text(&receive(&consumer).await), "meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_away_hands_the_wave_back_and_the_log_is_not_ready() {
    let streams = tempfile::tempdir().unwrap();
    let mut server = server(&[], &streams).await;
    let log = open_with(&server.url(), options().patience(Duration::from_secs(10))).await.unwrap();
    log.ready().await.unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(order("before", 0.5)).await.unwrap();
    server.kill().await.unwrap();
    let url = server.url();
    // Each of them waits for an answer.
    let (emitted, ready, refused) =
        tokio::join!(shop.emit(order("never", 0.5)), log.ready(), open_with(&url, options()));
    let (reason, is_transient, wave) = not_stored(emitted.unwrap_err());
    assert!(matches!(&reason, JetStreamError::NoAnswer { name, .. } if name == "shop"), "{reason:?}");
    assert!(is_transient);
    assert_eq!(wave.text().unwrap(), "never");
    assert!(ready.unwrap_err().is_transient());
    let refused = refused.unwrap_err();
    assert!(matches!(refused, JetStreamError::Unreachable { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_that_is_too_large_for_the_stream_is_refused_for_good() {
    let streams = tempfile::tempdir().unwrap();
    let server = server(&[], &streams).await;
    let log = open_with(&server.url(), options()).await.unwrap();
    let shop = connect(&log).await.emitter("shop").unwrap();
    let of = |bytes| Wave::builder("orders.created").bytes(vec![7; bytes]).build().unwrap();
    let refused = async |bytes| {
        let error = shop.emit(of(bytes)).await.unwrap_err();
        let EmitError::NotStored(not_stored) = error else { panic!("{error:?}") };
        assert!(!not_stored.is_transient && not_stored.wave.payload().len() == bytes);
        // An outbox looks for this: it must not try the same wave for ever.
        let reason = not_stored.source.downcast_ref::<AppendError>();
        assert!(matches!(reason, Some(AppendError::TooLarge { .. })), "{:?}", not_stored.source);
    };
    shop.emit(of(1_048_500)).await.unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let config = context.get_stream("shop").await.unwrap().cached_info().config.clone();
    context.update_stream(stream::Config { max_message_size: 10_000, ..config }).await.unwrap();
    refused(20_000).await;
    shop.emit(of(100)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_waits_for_a_server_that_is_not_up_yet() {
    let streams = tempfile::tempdir().unwrap();
    let mut server = server(&[], &streams).await;
    let url = server.url();
    server.kill().await.unwrap();
    let at_once = open_with(&url, options()).await;
    assert!(matches!(at_once, Err(JetStreamError::Unreachable { .. })), "{at_once:?}");
    let log = JetStreamLog::builder(&url, "shop").channels("orders.>", Durability::Stored).unwrap();
    let opening = tokio::spawn(log.options(options()).wait(Duration::from_secs(180)).open());
    server.restart().await.unwrap();
    let log = opening.await.unwrap().unwrap();
    // For callers that connect by themselves.
    let aether = log.layer(aether::builder().url("local:")).connect().await.unwrap();
    log.attach(&aether);
    assert!(JetStreamLog::of(&aether).is_some());
    let receipt = aether.emitter("shop").unwrap().emit(order("1", 0.5)).await.unwrap();
    assert_eq!(position(&receipt), 1);
}
