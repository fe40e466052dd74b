//! Retention that waits for named consumers.

use std::path::Path;
use std::time::Duration;

use aether_core::{Durability, EmitError, Emitter, Pattern};
use aether_log::store::{AppendError, OpenError, Retention, StoreOptions};
use aether_log::{Consumer, Log, LogBuilder};

use crate::bus::stage::{billing, connect, receive, text, texts, wave};

const MAX_BYTES: u64 = 20_000;
const SEGMENT: u64 = 4096;

fn log(folder: &Path, change: impl FnOnce(&mut Retention)) -> LogBuilder {
    let mut rules = Retention::default();
    change(&mut rules);
    let options = StoreOptions::default().segment_bytes(SEGMENT).unwrap().retention(rules);
    Log::builder(folder).channels(">", Durability::Stored).unwrap().options(options).keep_for(["billing"])
}

fn by_size(rules: &mut Retention) {
    rules.max_bytes = Some(MAX_BYTES);
}

/// Emits waves from this number on until the log refuses one, and returns its number.
async fn emit_until_held(shop: &Emitter, from: u64) -> u64 {
    for number in from.. {
        match shop.emit(wave(number, 0.5)).await {
            Ok(_) => {}
            Err(EmitError::NotStored(refused)) => {
                let held = refused.source.downcast_ref::<AppendError>();
                assert!(
                    matches!(held, Some(AppendError::Held { consumer, .. }) if consumer == "billing"),
                    "{refused:?}"
                );
                assert!(refused.is_transient);
                return number;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    unreachable!()
}

async fn handle(consumer: &Consumer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let delivery = receive(consumer).await;
        assert_eq!(text(&delivery), number.to_string());
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_log_is_kept_for_a_named_consumer_and_refuses_waves_while_it_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), by_size).open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    // It does not exist yet, so it holds everything.
    let refused = emit_until_held(&shop, 1).await;
    let extent = log.extent();
    assert!((MAX_BYTES..MAX_BYTES + SEGMENT).contains(&extent.bytes), "{extent:?}");
    assert_eq!((extent.first, extent.last), (1, refused - 1));
    assert!(matches!(log.ready(), Err(AppendError::Held { .. })), "{:?}", log.ready());

    let consumer = billing(&log);
    handle(&consumer, 1..refused - 1).await;
    let again = emit_until_held(&shop, refused).await;
    assert!(again > refused + 50 && log.ready().is_err());
    assert!(log.extent().first > 1 && log.extent().bytes < MAX_BYTES + SEGMENT, "{:?}", log.extent());
    handle(&consumer, refused - 1..again).await;
    assert_eq!((consumer.ledger().acknowledged, consumer.ledger().expired), (again - 1, 0));
    shop.emit(wave(again, 0.5)).await.unwrap();
    handle(&consumer, again..again + 1).await;

    // Forgotten, it holds everything again.
    drop(consumer);
    assert!(log.forget_consumer("billing").unwrap());
    let first = log.extent().first;
    emit_until_held(&shop, again + 1).await;
    assert_eq!(log.extent().first, first);
}

#[tokio::test]
async fn what_a_consumer_has_settled_is_known_when_it_is_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let refused = {
        let log = log(folder.path(), by_size).open().unwrap();
        let aether = connect(&log).await;
        let refused = emit_until_held(&aether.emitter("shop").unwrap(), 1).await;
        handle(&billing(&log), 1..refused).await;
        refused
    };
    let log = log(folder.path(), by_size).open().unwrap();
    assert!(log.extent().first > 1, "{:?}", log.extent());
    let aether = connect(&log).await;
    let again = emit_until_held(&aether.emitter("shop").unwrap(), refused).await;
    handle(&billing(&log), refused..again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_age_nor_number_nor_the_rules_of_channels_drop_what_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), |rules| rules.max_age = Some(Duration::ZERO)).open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 1..=100 {
        shop.emit(wave(number, 0.5)).await.unwrap();
    }
    let all = Pattern::new(">").unwrap();
    let long = std::time::SystemTime::now() + Duration::from_secs(60);
    assert_eq!(log.expire(&all, long).unwrap().removed, 0);
    assert_eq!((log.retain(), texts(&log).len()), (0, 100));
    let consumer = billing(&log);
    handle(&consumer, 1..51).await;
    assert!(log.expire(&all, long).unwrap().removed < 51);
    let left = texts(&log);
    assert_eq!(left[left.len() - 50..], (51..=100).map(|number| number.to_string()).collect::<Vec<_>>());
    handle(&consumer, 51..101).await;
    log.retain();
    assert!(texts(&log).len() < 100);
    assert_eq!(consumer.ledger().expired, 0);

    let folder = tempfile::tempdir().unwrap();
    let counted = self::log(folder.path(), |rules| rules.max_records = Some(40)).open().unwrap();
    let aether = connect(&counted).await;
    let refused = emit_until_held(&aether.emitter("shop").unwrap(), 1).await;
    assert_eq!(texts(&counted).len() as u64, refused - 1);
    assert!((41..150).contains(&refused), "{refused}");
}

#[test]
fn a_name_that_no_consumer_can_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Log::builder(folder.path()).keep_for(["bill/ing"]).open().unwrap_err();
    assert!(matches!(refused, OpenError::KeepFor { name } if name == "bill/ing"));
}
