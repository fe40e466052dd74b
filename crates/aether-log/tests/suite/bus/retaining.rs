//! Retention: the waves that a log drops while it runs, by age, by channel, and by key.

use std::time::{Duration, Instant};

use aether_core::{Durability, Pattern, Wave};
use aether_log::store::{Retention, StoreOptions};
use aether_log::{Log, LogBuilder};

use crate::bus::stage::{connect, texts, wave};

/// Waits until something is true that a thread of the log does by the clock.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(180), "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn log(folder: &std::path::Path) -> LogBuilder {
    let log = Log::builder(folder).channels(">", Durability::Stored).unwrap();
    log.options(StoreOptions::default().segment_bytes(4096).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_are_dropped_at_their_age_while_nothing_else_happens() {
    let folder = tempfile::tempdir().unwrap();
    let age = Duration::from_secs(2);
    let mut rules = Retention::default();
    rules.max_age = Some(age);
    let options = StoreOptions::default().retention(rules);
    let log = log(folder.path()).options(options).open().unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let mut last = Instant::now();
    for number in 0..10 {
        last = Instant::now();
        shop.emit(wave(number, 0.5)).await.unwrap();
    }
    // One segment, which is far from full.
    tokio::task::block_in_place(|| eventually("the waves are dropped", || texts(&log).is_empty()));
    assert!(last.elapsed() >= age, "the last one was there until then: {:?}", last.elapsed());
    let receipt = shop.emit(wave(10, 0.5)).await.unwrap();
    assert_eq!(receipt.stored.unwrap().position.get(), 11, "positions go on");
    assert_eq!(log.extent().segments, 1, "{:?}", log.extent());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_a_log_remove_old_waves_of_a_channel_and_all_but_the_last_of_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = |text| Pattern::new(text).unwrap();
    let log = log(folder.path())
        .max_age(pattern("notes"), Duration::from_millis(100))
        .compact(pattern("state.*"))
        .clean_up_every(Duration::from_millis(100))
        .open()
        .unwrap();
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in 0..200_u64 {
        let state = Wave::builder("state.lamp").key(&format!("lamp-{}", number % 5)).text(number.to_string());
        shop.emit(state.build().unwrap()).await.unwrap();
        shop.emit(Wave::builder("notes").text("note").build().unwrap()).await.unwrap();
        shop.emit(Wave::builder("orders").text("order").build().unwrap()).await.unwrap();
    }
    let count = |text: &str| texts(&log).iter().filter(|other| *other == text).count();
    tokio::task::block_in_place(|| {
        eventually("the notes are removed, also in a segment that is not full", || count("note") == 0);
        eventually("old states are removed", || !texts(&log).contains(&"0".to_owned()));
    });
    assert_eq!(count("order"), 200, "other channels stay");
    for number in 195..200 {
        assert_eq!(count(&number.to_string()), 1, "the last wave of each key stays");
    }
}
