//! Waves for later in a folder, with a clock that moves on only while nothing else happens.

use std::time::Duration;

use aether_core::Wave;
use aether_core::clock::{test_now, wall_time};
use aether_log::{SCHEDULE, Schedule, TimerLedger};

use crate::bus::stage::{billing, connect, open, text, texts};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn waves_come_to_the_millisecond_when_they_are_due_and_in_that_order() {
    let begun = test_now();
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for hours in [3, 1, 2] {
        let wave = Wave::builder("orders.created").text(hours.to_string()).after(hours * HOUR);
        shop.emit(wave).await.unwrap();
    }
    let counted = |stored, fired, waiting| {
        let [TimerLedger { stored: s, fired: f, waiting: w, cancelled: 0, .. }] = aether.details()[..] else {
            panic!("one log")
        };
        assert_eq!((s, f, w), (stored, fired, waiting));
    };
    counted(3, 0, 3);
    let consumer = billing(&log);
    for hours in 1..=3 {
        let delivery = consumer.receive().await.unwrap();
        assert_eq!(text(&delivery), hours.to_string());
        let late = test_now() - begun - hours * HOUR;
        assert!(late <= Duration::from_millis(2), "{late:?}");
        delivery.ack().await.unwrap();
    }
    tokio::time::sleep(HOUR).await;
    counted(3, 3, 0);
}

#[tokio::test(start_paused = true)]
async fn times_that_were_missed_are_made_up_for_by_one_wave() {
    let _ = test_now();
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let hourly = Schedule::cron("@hourly", "UTC").unwrap();
    let wave = Wave::builder("orders.created").text("hourly").build().unwrap();
    log.schedules().put("hourly", hourly, wave).await.unwrap();
    drop(log);
    tokio::time::advance(24 * HOUR).await;
    let opened = wall_time();
    let log = open(folder.path());
    let consumer = billing(&log);
    let missed = consumer.receive().await.unwrap();
    assert!(missed.wave().due().unwrap() < opened - 22 * HOUR, "the first of those that were missed");
    missed.ack().await.unwrap();
    let next = consumer.receive().await.unwrap();
    assert_eq!(next.wave().metadata().value(SCHEDULE), Some("hourly"));
    assert!(next.wave().due().unwrap() > opened, "and then the next time");
    next.ack().await.unwrap();
    assert_eq!(texts(&log), ["hourly", "hourly"]);
}

#[tokio::test(start_paused = true)]
async fn the_file_of_timers_is_cleared_and_what_still_waits_in_it_stays() {
    let _ = test_now();
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let later = |text: &str, after| Wave::builder("orders.created").text(text).after(after).build().unwrap();
    shop.emit(later("far", HOUR)).await.unwrap();
    let daily = Wave::builder("orders.created").text("daily").build().unwrap();
    log.schedules().put("daily", Schedule::every(24 * HOUR), daily).await.unwrap();
    let body = "x".repeat(32 << 10);
    for round in 1..=20 {
        let waves = (0..32).map(|_| later(&body, Duration::from_secs(1)));
        shop.emit_all(waves).await.unwrap();
        log.last_position().wait_for(|last| *last == round * 32).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let files = std::fs::read_dir(folder.path().join("timers")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 8 << 20, "of 20 MiB {bytes} are left");
    drop((shop, aether, log));

    let log = open(folder.path());
    assert_eq!(log.schedules().list().await.unwrap().len(), 1);
    log.last_position().wait_for(|last| *last == 642).await.unwrap();
    assert_eq!(texts(&log)[640..], ["far", "daily"]);
}
