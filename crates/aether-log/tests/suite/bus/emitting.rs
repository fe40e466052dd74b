//! The promises of an emit on a durable channel, and on others.

use aether_core::medium::NotStored;
use aether_core::{Durability, EmitError, Kind, Vibrator, Wave};
use futures_util::FutureExt;

use crate::bus::stage::{connect, open, position, texts, wave};

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_names_the_level_that_was_reached_and_the_position() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on(">").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let emit = |channel: &str| shop.emit(Wave::from_bytes(channel, "x").unwrap());
    let first = emit("orders.created").await.unwrap();
    let second = emit("notes.taken").await.unwrap();
    let other = emit("weather").await.unwrap();
    let reached = |receipt: aether_core::Receipt| {
        receipt.stored.map(|stored| (stored.position.get(), stored.durability))
    };
    assert_eq!(reached(first), Some((1, Durability::Synced)));
    assert_eq!(reached(second), Some((2, Durability::Stored)));
    assert_eq!(reached(other), None);
    assert_eq!([first, second, other].map(|receipt| receipt.receivers), [Some(1); 3]);
    let confirmed = shop.emit_confirmed(Wave::from_bytes("orders.paid", "x").unwrap()).await.unwrap();
    assert_eq!(position(&confirmed), 3);
    for channel in ["orders.created", "notes.taken", "weather", "orders.paid"] {
        assert_eq!(live.receive().await.unwrap().channel().as_str(), channel);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_wave_is_read_back_with_everything_but_its_reply_path() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let wave =
        Wave::builder("orders.created").kind(Kind::Command).amplitude(0.9).key("17").metadata("who", "me");
    let receipt = shop.emit(wave.json(serde_json::json!({ "sku": "lamp" })).build().unwrap()).await.unwrap();
    drop(aether);
    let aether_log::LogItem::Wave(stored) = log.read_from(0).next_item().unwrap().unwrap() else { panic!() };
    let back = &stored.wave;
    assert_eq!(back.id(), shop.id_of(&receipt));
    assert_eq!(
        (back.kind(), back.key(), back.metadata().value("who")),
        (Kind::Command, Some("17"), Some("me"))
    );
    assert_eq!(back.json::<serde_json::Value>().unwrap()["sku"], "lamp");
    assert!((back.amplitude().as_f32() - 0.9).abs() < 0.001);
}

#[tokio::test]
async fn try_emit_is_refused_on_a_durable_channel_and_emit_all_stores_each_wave() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let refused = shop.try_emit(wave(1, 0.5)).unwrap_err();
    assert!(matches!(&refused, EmitError::NotStored(NotStored { is_transient: false, .. })), "{refused}");
    assert!(!refused.is_transient());
    assert_eq!(refused.into_wave().unwrap().text().unwrap(), "1");
    let mixed = (0..100).map(|number| match number % 3 {
        0 => Wave::builder("weather").text(number.to_string()).build().unwrap(),
        _ => wave(number, 0.5),
    });
    let receipt = shop.emit_all(mixed).await.unwrap();
    let stored = receipt.stored.unwrap();
    assert_eq!((receipt.emitted, stored.waves), (100, 66));
    assert_eq!((stored.first.get(), stored.last.get(), stored.durability), (1, 66, Durability::Synced));
    let expected: Vec<_> =
        (0..100).filter(|number| number % 3 != 0).map(|number| number.to_string()).collect();
    assert_eq!(texts(&log), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emit_that_is_cancelled_while_it_waits_is_stored_and_reaches_live_receivers() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let (mut emitted, mut cancelled) = (0, 0);
    // On a busy machine the disk may be quicker than the test, so as many are tried as it takes.
    while cancelled <= 100 {
        cancelled += usize::from(shop.emit(wave(emitted, 0.5)).now_or_never().is_none());
        emitted += 1;
    }
    aether.flush().await.unwrap();
    assert_eq!(texts(&log).len() as u64, emitted);
    let mut heard = Vec::new();
    for _ in 0..emitted {
        heard.push(live.receive().await.unwrap().text().unwrap().parse::<u64>().unwrap());
    }
    assert_eq!(heard, (0..emitted).collect::<Vec<_>>());
    aether.close().await.unwrap();
    assert!(matches!(shop.emit(wave(0, 0.5)).await, Err(EmitError::Closed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_and_reaches_live_receivers_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let receipt = shop.emit_all((0..1000).map(|number| wave(number, 0.5))).await.unwrap();
    let stored = receipt.stored.unwrap();
    assert_eq!((receipt.emitted, stored.waves, stored.first.get(), stored.last.get()), (1000, 1000, 1, 1000));
    for number in 0..1000_u64 {
        assert_eq!(live.receive().await.unwrap().text().unwrap(), number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cancelled_while_it_waits_is_stored_and_reaches_live_receivers() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    // More than the disk stores while the test does not run, so it waits for the disk on any machine.
    let mut waves = (0..u32::MAX).map(|number| wave(number.into(), 0.5));
    assert!(shop.emit_all(&mut waves).now_or_never().is_none(), "it waits for the disk");
    let taken = u64::from(u32::MAX) - waves.len() as u64;
    assert!(taken > 0);
    assert_eq!(shop.account().numbered, taken, "the account counts the waves that were taken");
    aether.flush().await.unwrap();
    assert_eq!(texts(&log), (0..taken).map(|number| number.to_string()).collect::<Vec<_>>());
    for number in 0..taken {
        assert_eq!(live.receive().await.unwrap().text().unwrap(), number.to_string());
    }
    // The rest goes on where it was.
    let rest = shop.emit_all(waves.take(1000)).await.unwrap();
    assert_eq!(rest.emitted, 1000);
    assert_eq!(texts(&log).len() as u64, taken + 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_of_a_batch_that_is_too_large_is_handed_back_and_the_others_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let large = 65 << 20;
    let waves = (0..10).map(|number| match number {
        3 => Wave::from_bytes("orders.created", vec![0; large]).unwrap(),
        _ => wave(number, 0.5),
    });
    let error = shop.emit_all(waves).await.unwrap_err();
    assert_eq!((error.emitted, error.stored.unwrap().waves), (9, 9));
    assert!(matches!(&error.refused[..], [EmitError::TooLarge { .. }]), "{error:?}");
    let kept: Vec<_> = texts(&log);
    assert_eq!(kept, ["0", "1", "2", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_that_is_stored_is_confirmed_also_while_the_server_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let server = aether_conformance::NatsServer::start().await.unwrap();
    let aether = log.connect(aether::builder().url(server.url())).await.unwrap();
    drop(server);
    // An error would ask for a second attempt, which the log would store as another wave.
    let receipt = aether.emitter("shop").unwrap().emit_confirmed(wave(1, 0.5)).await.unwrap();
    assert_eq!((position(&receipt), texts(&log)), (1, vec!["1".to_owned()]));
}
