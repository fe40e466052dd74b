//! Replaying into a bus, filtered and at a speed.

use std::time::{Duration, Instant, SystemTime};

use aether_core::{Aether, Floor, Kind, Pattern, Vibrator, Wave};
use aether_log::{LogItem, Replay, ReplayError, WaveFilter};

use crate::bus::stage::{connect, open, wave};

#[tokio::test]
async fn a_filter_takes_the_waves_of_a_channel_kind_amplitude_source_key_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let (shop, till) = (aether.emitter("shop").unwrap(), aether.emitter("till").unwrap());
    let order = |text: &str| Wave::builder("orders.created").text(text);
    shop.emit(order("plain").build().unwrap()).await.unwrap();
    shop.emit(order("command").kind(Kind::Command).build().unwrap()).await.unwrap();
    shop.emit(order("weak").amplitude(0.1).build().unwrap()).await.unwrap();
    shop.emit(order("keyed").key("17").build().unwrap()).await.unwrap();
    till.emit(order("of the till").build().unwrap()).await.unwrap();
    till.emit(Wave::builder("notes.taken").text("note").build().unwrap()).await.unwrap();
    let later = SystemTime::now();
    let all = || WaveFilter::default();
    let taken = |filter: WaveFilter| {
        let mut reader = log.read_from(0).filtered(filter);
        let mut taken = Vec::new();
        while let Some(LogItem::Wave(stored)) = reader.next_item().unwrap() {
            taken.push(stored.wave.text().unwrap().to_owned());
        }
        taken
    };
    assert_eq!(taken(all()).len(), 6);
    assert_eq!(taken(all().pattern(Pattern::new("notes.>").unwrap())), ["note"]);
    assert_eq!(taken(all().kind(Kind::Command)), ["command"]);
    assert_eq!(taken(all().floor(Floor::new(0.2).unwrap())).len(), 5);
    assert_eq!(taken(all().source("till")), ["of the till", "note"]);
    assert_eq!(taken(all().key("17")), ["keyed"]);
    assert_eq!(taken(all().source("till").pattern(Pattern::new("orders.>").unwrap())), ["of the till"]);
    assert!(taken(all().since(later + Duration::from_secs(1))).is_empty());
    assert_eq!(taken(all().since(later - Duration::from_secs(60))).len(), 6);
}

#[tokio::test]
async fn a_replay_emits_new_waves_in_their_order_and_keeps_their_pauses() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(wave(0, 0.5)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    shop.emit(wave(1, 0.5)).await.unwrap();
    let under_test = Aether::local();
    let mut live = Vibrator::create("live", &under_test).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let again = under_test.emitter("replay").unwrap();
    let mut took = Vec::new();
    for speed in [1.0, 4.0] {
        let start = Instant::now();
        let replayed = Replay::new(log.read_from(0)).speed(speed).unwrap().emit_into(&again).await.unwrap();
        took.push(start.elapsed());
        assert_eq!((replayed.waves, replayed.damaged.len()), (2, 0));
    }
    assert!(took[0] >= Duration::from_millis(300) && took[1] >= Duration::from_millis(75), "{took:?}");
    for number in ["0", "1", "0", "1"] {
        let wave = live.receive().await.unwrap();
        assert_eq!((wave.text().unwrap(), wave.source().name()), (number, "replay"));
    }
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = Replay::new(log.read_from(0)).speed(speed);
        assert!(matches!(refused, Err(ReplayError::Speed { .. })), "{speed}");
    }
    under_test.close().await.unwrap();
    let refused = Replay::new(log.read_from(0)).emit_into(&again).await;
    assert!(matches!(refused, Err(ReplayError::Emit { position: 1, .. })), "{refused:?}");
}
