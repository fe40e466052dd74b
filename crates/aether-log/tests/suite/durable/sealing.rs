//! Durable channels of a bus with keys: the servers keep nothing that they can read, and a key that is missing costs no
//! wave.

use std::time::Duration;

use aether::nats::NatsOptions;
use aether::seal::{KeySource, SealKeys, Signers, SigningKey};
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Durability, Wave};
use aether_log::{DurableLog, JetStreamError, JetStreamLog, JetStreamOptions, Schedule};

use crate::durable::stage::{connect, none_until, options, order, position, quick, receive, text};

async fn server() -> (NatsServer, tempfile::TempDir) {
    let streams = tempfile::tempdir().unwrap();
    let options = ServerOptions::default().jetstream(streams.path());
    (NatsServer::start_with(options).await.unwrap(), streams)
}

async fn open(url: &str, keys: Option<&SealKeys>) -> JetStreamLog {
    open_with(url, with_keys(keys), options()).await
}

fn with_keys(keys: Option<&SealKeys>) -> NatsOptions {
    keys.map_or_else(NatsOptions::default, |keys| NatsOptions::default().keys(keys.clone()))
}

async fn open_with(url: &str, nats: NatsOptions, options: JetStreamOptions) -> JetStreamLog {
    let log = JetStreamLog::builder(url, "shop").options(options).nats(nats);
    log.channels("orders.>", Durability::Stored).unwrap().open().await.unwrap()
}

async fn emitter_of(log: &JetStreamLog) -> (Aether, aether_core::Emitter) {
    let aether = connect(&log.clone().into()).await;
    let emitter = aether.emitter("shop").unwrap();
    (aether, emitter)
}

/// The payloads of a stream, as the server has them.
async fn kept(url: &str, stream: &str) -> Vec<Vec<u8>> {
    let context = async_nats::jetstream::new(async_nats::connect(url).await.unwrap());
    let stream = context.get_stream(stream).await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    let mut payloads = Vec::new();
    for position in 1..=last {
        // A position may have been purged.
        payloads.extend(stream.get_raw_message(position).await.ok().map(|message| message.payload.to_vec()));
    }
    payloads
}

fn has(payloads: &[Vec<u8>], text: &str) -> bool {
    payloads.iter().any(|payload| payload.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_waves_letters_and_failures_that_it_cannot_read() {
    let (server, _streams) = server().await;
    let keys = SealKeys::generate().unwrap();
    let log = open(&server.url(), Some(&keys)).await;
    let (aether, emitter) = emitter_of(&log).await;
    for number in 0..3 {
        emitter.emit(order(format!("lamp-{number}"), 0.5)).await.unwrap();
    }
    let consumer = log.consumer("billing", "orders.>", quick().max_attempts(2.try_into().unwrap())).unwrap();
    // One fails twice and becomes a letter; its failure is noted in between. The others are acknowledged.
    for _ in 0..4 {
        let delivery = receive(&consumer).await;
        match text(&delivery).as_str() {
            "lamp-1" => delivery.nack("no-such-account"),
            _ => delivery.ack().await.unwrap(),
        }
    }
    let letters = log.dead();
    // Giving up happens while the next wave is waited for. It is counted once the wave is acknowledged.
    let durable = DurableLog::from(log.clone());
    none_until(&consumer, async || durable.dead().given_up()["billing"] > 0).await;
    let account = consumer.account().await.unwrap();
    assert_eq!((account.acknowledged, account.dead), (2, 1), "{account:?}");
    let numbers = letters.numbers().await.unwrap();
    let letter = letters.show(numbers[0]).await.unwrap();
    assert_eq!((numbers.len(), letter.stored.wave.text().unwrap()), (1, "lamp-1"));
    assert!(format!("{letter:?}").contains("no-such-account"));

    let (waves, beside) = (kept(&server.url(), "shop").await, kept(&server.url(), "shop-dead").await);
    assert!(waves.len() == 3 && !beside.is_empty());
    for secret in ["lamp", "no-such-account", "shop"] {
        assert!(!has(&waves, secret) && !has(&beside, secret), "{secret}");
    }
    letters.replay(numbers[0], &emitter).await.unwrap();
    assert_eq!(text(&receive(&consumer).await), "lamp-1");
    assert_eq!(aether.status().refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_whose_key_is_missing_waits_for_it() {
    let (server, _streams) = server().await;
    let mut newer = SealKeys::generate().unwrap();
    let older = newer.clone();
    newer.add().unwrap();
    newer.seal_with_newest();
    // A wave that a process cannot open comes again after this time.
    let open = async |keys| {
        let options = options().ack_wait(Duration::from_millis(500));
        open_with(&server.url(), with_keys(keys), options).await
    };
    let (sending, receiving) = (open(Some(&newer)).await, open(Some(&older)).await);
    let none = open(None).await;
    let (_sender, emitter) = emitter_of(&sending).await;
    let (behind, _) = emitter_of(&receiving).await;
    let (open_bus, _) = emitter_of(&none).await;
    let receipt = emitter.emit(order("a lamp", 0.5)).await.unwrap();

    for (log, aether) in [(&receiving, &behind), (&none, &open_bus)] {
        let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
        // Until it has come a second time, because nobody has taken it.
        let is_refused = none_until(&consumer, async || aether.status().refused() >= 2);
        tokio::time::timeout(Duration::from_secs(180), is_refused).await.expect("it comes a second time");
        let status = aether.status();
        assert!(status.refused_unknown_key >= 2 || status.refused_sealed >= 2, "{status:?}");
    }
    assert_eq!(aether::seal::missing_keys(&behind)[0].0, newer.ids().last().unwrap().0);
    let consumer = sending.consumer("billing", "orders.>", quick()).unwrap();
    let delivery = receive(&consumer).await;
    assert_eq!((delivery.position(), text(&delivery)), (position(&receipt), "a lamp".to_owned()));
    delivery.ack().await.unwrap();
    let account = consumer.account().await.unwrap();
    assert_eq!((account.stored, account.acknowledged, account.expired), (1, 1, 0), "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sealed_altered_or_moved_is_passed_over_and_counted() {
    let (server, _streams) = server().await;
    let keys = SealKeys::generate().unwrap();
    let log = open(&server.url(), Some(&keys)).await;
    let (aether, emitter) = emitter_of(&log).await;
    emitter.emit(order("genuine", 0.5)).await.unwrap();
    let genuine = kept(&server.url(), "shop").await.remove(0);
    let mut altered = genuine.clone();
    *altered.last_mut().unwrap() ^= 1;
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let forged = [
        ("aether-log.shop.orders.created", b"a frame of a stranger".to_vec()),
        ("aether-log.shop.orders.created", altered),
        ("aether-log.shop.orders.deleted", genuine),
    ];
    for (subject, payload) in forged {
        context.publish(subject, payload.into()).await.unwrap().await.unwrap();
    }
    emitter.emit(order("the last", 0.5)).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    for expected in ["genuine", "the last"] {
        let delivery = receive(&consumer).await;
        assert_eq!(text(&delivery), expected);
        delivery.ack().await.unwrap();
    }
    let status = aether.status();
    assert_eq!((status.refused_plain, status.refused_tampered), (1, 2), "{status:?}");
    let account = consumer.account().await.unwrap();
    assert_eq!((account.acknowledged, account.expired), (2, 3), "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_wave_is_proven_and_one_in_the_name_of_another_passed_over() {
    let (server, _streams) = server().await;
    let keys = SealKeys::generate().unwrap();
    let [shop, rogue, late] = std::array::from_fn(|_| SigningKey::generate().unwrap());
    let listed = Signers::new().allow("shop", shop.public_key()).unwrap();
    let listed = listed.allow("rogue", rogue.public_key()).unwrap();
    let with = |key: &SigningKey| NatsOptions::default().keys(keys.clone()).signing_key(key.clone());
    let log = open_with(&server.url(), with(&shop).signers(listed), options()).await;
    let (aether, emitter) = emitter_of(&log).await;
    // All three store as `shop`; one of them may not, and one is not on the list.
    let (_rogue, false_shop) = emitter_of(&open_with(&server.url(), with(&rogue), options()).await).await;
    let (_late, unknown_shop) = emitter_of(&open_with(&server.url(), with(&late), options()).await).await;
    false_shop.emit(order("forged", 0.5)).await.unwrap();
    unknown_shop.emit(order("of an unknown signer", 0.5)).await.unwrap();
    emitter.emit(order("genuine", 0.5)).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    let delivery = receive(&consumer).await;
    assert_eq!(text(&delivery), "genuine");
    let proven = delivery.wave().proven_source().expect("a proven source");
    assert_eq!((proven.name(), proven.signer()), ("shop", shop.id()));
    delivery.ack().await.unwrap();
    let status = aether.status();
    assert_eq!(
        (status.refused_misnamed, status.refused_forged, status.refused_unsigned),
        (1, 0, 0),
        "{status:?}"
    );
    assert!(status.refused_unknown_signer >= 1, "{status:?}");
    assert_eq!(aether::seal::unknown_signers(&aether)[0].0, late.id());
    // The wave of the unknown signer waits until its key is listed: it may be a new program.
    let account = consumer.account().await.unwrap();
    assert_eq!((account.acknowledged, account.expired), (1, 1), "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_has_no_keys_is_an_error_before_anything_is_stored() {
    let (server, streams) = server().await;
    let nats = NatsOptions::default().keys(KeySource::File(streams.path().join("missing.keys")));
    let log = JetStreamLog::builder(server.url(), "shop").options(options()).nats(nats);
    let refused = log.channels("orders.>", Durability::Stored).unwrap().open().await.unwrap_err();
    assert!(matches!(refused, JetStreamError::Keys(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_for_later_is_sealed_for_the_place_where_it_arrives() {
    let (server, _streams) = server().await;
    let keys = SealKeys::generate().unwrap();
    let log = open(&server.url(), Some(&keys)).await;
    let (_aether, shop) = emitter_of(&log).await;
    let wave = |text: &str| Wave::builder("orders.created").text(text);
    shop.emit(wave("a lamp").after(Duration::from_millis(300))).await.unwrap();
    shop.emit(wave("a chair").after(Duration::from_secs(3600))).await.unwrap();
    let every = Schedule::every(Duration::from_secs(1));
    log.schedules().put("tick", every, wave("a tick").build().unwrap()).await.unwrap();
    for stream in ["shop", "shop-schedules"] {
        let kept = kept(&server.url(), stream).await;
        assert!(!has(&kept, "a lamp") && !has(&kept, "a chair") && !has(&kept, "a tick"));
    }
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    let mut heard = Vec::new();
    while heard.len() < 4 {
        let delivery = receive(&consumer).await;
        heard.push(text(&delivery));
        delivery.ack().await.unwrap();
    }
    heard.sort_unstable();
    assert_eq!(heard, ["a lamp", "a tick", "a tick", "a tick"]);
}
