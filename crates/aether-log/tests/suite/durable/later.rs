//! Waves for later and regularly, line by line. Nothing is waited for by time: a wave that is due comes, or a later one.

use std::time::{Duration, SystemTime};

use aether_core::{Durability, EmitError, Vibrator, Wave};
use aether_log::{Consumer, DurableLog, SCHEDULE, Schedule, ScheduleError};

use crate::durable::stage::{Place, connect, order, quick, receive, text};

fn later(name: &str, after: Duration) -> Wave {
    Wave::builder("orders.created").text(name).after(after).build().unwrap()
}

const SOON: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_secs(3600);

fn billing(log: &DurableLog) -> Consumer {
    log.consumer("billing", "orders.>", quick()).unwrap()
}

async fn next_text(consumer: &Consumer) -> String {
    let delivery = receive(consumer).await;
    let text = text(&delivery);
    delivery.ack().await.unwrap();
    text
}

pub(crate) async fn l1_a_wave_for_later_comes_when_it_is_due_and_only_to_consumers(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let receipt = shop.emit(later("later", SOON)).await.unwrap();
    assert_eq!(receipt.stored.unwrap().durability, Durability::Stored);
    shop.emit(later("never", HOUR)).await.unwrap();
    shop.emit(Wave::builder("orders.created").text("past").at(SystemTime::UNIX_EPOCH)).await.unwrap();
    let consumer = billing(&log);
    assert_eq!(next_text(&consumer).await, "past", "a time that has passed is now");
    let delivery = receive(&consumer).await;
    let wave = delivery.wave();
    assert_eq!((wave.text().unwrap(), wave.id()), ("later", shop.id_of(&receipt)));
    assert!(wave.due().unwrap() <= SystemTime::now() && wave.age() < Duration::from_secs(60));
    delivery.ack().await.unwrap();
    shop.emit(order("end", 0.5)).await.unwrap();
    assert_eq!(next_text(&consumer).await, "end");
    assert_eq!(live.receive().await.unwrap().text().unwrap(), "past");
    assert_eq!(live.receive().await.unwrap().text().unwrap(), "end", "nobody heard it live");
}

pub(crate) async fn l2_no_wave_is_kept_for_later_where_no_log_keeps_its_channel(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let plain = || Wave::builder("plain").text("x").after(HOUR).build().unwrap();
    let refused = shop.emit(plain()).await.unwrap_err();
    assert!(matches!(&refused, EmitError::NotKept { wave } if wave.sequence() == 0), "{refused:?}");
    assert!(matches!(shop.try_emit(plain()), Err(EmitError::NotKept { .. })));
    let refused = shop.emit_all([plain(), order("kept", 0.5)]).await.unwrap_err();
    assert_eq!((refused.emitted, refused.refused.len()), (1, 1));
    let put = log.schedules().put("plain", Schedule::after(HOUR), plain()).await;
    assert!(matches!(put, Err(ScheduleError::NotKept { .. })), "{put:?}");
    assert_eq!(next_text(&billing(&log)).await, "kept");
}

pub(crate) async fn l3_a_batch_may_have_waves_for_later(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let waves =
        [order("a", 0.5), later("c", SOON), later("never", HOUR), order("b", 0.5), later("d", SOON * 4)];
    let receipt = shop.emit_all(waves).await.unwrap();
    assert_eq!((receipt.emitted, receipt.stored.unwrap().waves), (5, 5));
    let consumer = billing(&log);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(next_text(&consumer).await, name);
    }
}

pub(crate) async fn l4_timers_outlast_the_process_and_those_that_were_missed_come(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(later("missed", Duration::from_millis(100))).await.unwrap();
    shop.emit(later("never", HOUR)).await.unwrap();
    drop((shop, aether, log));
    tokio::time::sleep(Duration::from_millis(150)).await;
    let log = place.open().await;
    let consumer = billing(&log);
    assert_eq!(next_text(&consumer).await, "missed");
    let aether = connect(&log).await;
    aether.emitter("shop").unwrap().emit(order("end", 0.5)).await.unwrap();
    assert_eq!(next_text(&consumer).await, "end", "once");
}

pub(crate) async fn l5_a_schedule_is_replaced_listed_and_cancelled_by_its_key(place: &Place) {
    let log = place.open().await;
    let schedules = log.schedules();
    assert!(schedules.list().await.unwrap().is_empty());
    assert!(!schedules.cancel("nightly").await.unwrap());
    let nightly = Schedule::cron("0 3 * * 1-7", "Europe/Berlin").unwrap();
    schedules.put("nightly", Schedule::after(SOON), order("replaced", 0.5)).await.unwrap();
    schedules.put("nightly", nightly.clone(), order("night", 0.5)).await.unwrap();
    schedules.put("every", Schedule::every(HOUR), order("every", 0.5)).await.unwrap();
    // Long enough for a busy machine to list it.
    schedules.put("once", Schedule::after(10 * SOON), order("once", 0.5)).await.unwrap();
    let listed = schedules.list().await.unwrap();
    let keys: Vec<_> = listed.iter().map(|one| (&*one.key, one.channel.as_str())).collect();
    assert_eq!(keys, ["every", "nightly", "once"].map(|key| (key, "orders.created")));
    assert_eq!(listed[1].schedule, nightly);
    assert!(listed.iter().all(|one| one.next > SystemTime::now() - Duration::from_secs(60)));
    assert!(listed[0].next < SystemTime::now() + HOUR);
    let consumer = billing(&log);
    assert_eq!(next_text(&consumer).await, "once", "and not the one that was replaced");
    for key in ["nightly", "every"] {
        assert!(schedules.cancel(key).await.unwrap());
        assert!(!schedules.cancel(key).await.unwrap());
    }
    assert!(schedules.list().await.unwrap().is_empty());
    for key in ["", "a b", "a.b"] {
        let put = schedules.put(key, nightly.clone(), order("x", 0.5)).await;
        assert!(matches!(put, Err(ScheduleError::Key { .. })), "{key:?}");
    }
    let put = schedules.put("often", Schedule::every(SOON), order("x", 0.5)).await;
    assert!(matches!(put, Err(ScheduleError::TooOften { .. })), "{put:?}");
}

pub(crate) async fn l6_a_regular_wave_comes_each_time_under_an_identity_of_its_own(place: &Place) {
    let log = place.open().await;
    let second = Schedule::every(Duration::from_secs(1));
    log.schedules().put("tick", second, order("tick", 0.5)).await.unwrap();
    let consumer = billing(&log);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let delivery = receive(&consumer).await;
        let wave = delivery.wave();
        assert_eq!((wave.text().unwrap(), wave.metadata().value(SCHEDULE)), ("tick", Some("tick")));
        assert_eq!(wave.source().name(), "schedule-tick");
        assert!(wave.due().unwrap() <= SystemTime::now());
        assert!(!ids.contains(&wave.id()), "{:?}", wave.id());
        ids.push(wave.id());
        delivery.ack().await.unwrap();
    }
    assert!(log.schedules().cancel("tick").await.unwrap());
}

pub(crate) async fn l7_however_many_processes_share_a_log_one_wave_comes(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    // In a folder there is one.
    let other = if matches!(place, Place::Folder(_)) { log.clone() } else { place.open().await };
    for log in [&log, &other] {
        log.schedules().put("once", Schedule::after(SOON), order("once", 0.5)).await.unwrap();
    }
    let consumer = billing(&other);
    assert_eq!(next_text(&consumer).await, "once");
    aether.emitter("shop").unwrap().emit(order("end", 0.5)).await.unwrap();
    assert_eq!(next_text(&consumer).await, "end");
}
