//! Unique waves: the promise on each kind of log.

use std::time::Duration;

use aether_core::{EmitError, Vibrator, Wave, WaveBuilder};
use futures_util::future::join_all;

use crate::durable::stage::{Place, connect, position, quick, receive, text};

fn invoice(name: &str) -> WaveBuilder {
    Wave::builder("orders.invoice").unique(name).text(name)
}

pub(crate) async fn d18_a_unique_wave_is_stored_and_heard_once(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let mut live = Vibrator::create("live", &aether).await.unwrap();
    live.resonate_on("orders.>").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let first = shop.emit(invoice("17")).await.unwrap();
    // Of many at once, by several emitters, one is the first.
    let others: Vec<_> = (0..8).map(|number| aether.emitter(&format!("shop-{number}")).unwrap()).collect();
    let emitted = join_all(others.iter().map(|shop| shop.emit(invoice("18")))).await;
    let stored: Vec<_> = emitted.into_iter().map(|receipt| receipt.unwrap().stored.unwrap()).collect();
    assert_eq!(stored.iter().filter(|stored| !stored.is_copy).count(), 1, "{stored:?}");
    assert!(stored.iter().all(|other| other.position == stored[0].position), "{stored:?}");
    let again = shop.emit(invoice("17").amplitude(0.9)).await.unwrap();
    assert!(again.stored.unwrap().is_copy && position(&again) == position(&first));
    assert_eq!(again.receivers, Some(0));
    let confirmed = shop.emit_confirmed(invoice("17")).await.unwrap();
    assert!(confirmed.stored.unwrap().is_copy);
    let all = ["17", "19", "18", "19"].map(|name| invoice(name).build().unwrap());
    let all = shop.emit_all(all).await.unwrap().stored.unwrap();
    assert_eq!((all.waves, all.copies), (4, 3));
    // The name belongs to the channel.
    let other = shop.emit(Wave::builder("orders.last").unique("17").text("last")).await.unwrap();
    assert!(!other.stored.unwrap().is_copy);

    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    for expected in ["17", "18", "19", "last"] {
        let heard = live.receive().await.unwrap();
        let delivery = receive(&consumer).await;
        assert_eq!((heard.text().unwrap(), &*text(&delivery)), (expected, expected));
        delivery.ack().await.unwrap();
    }

    // Also after a restart.
    drop((live, shop, others, consumer, aether, log));
    let log = place.open().await;
    let aether = connect(&log).await;
    let again = aether.emitter("shop").unwrap().emit(invoice("17")).await.unwrap();
    assert!(again.stored.unwrap().is_copy && position(&again) == position(&first));
}

#[tokio::test]
async fn a_unique_wave_needs_a_log_and_is_none_for_later() {
    let place = Place::folder();
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    let refused = shop.emit(Wave::builder("weather").unique("17")).await.unwrap_err();
    assert!(matches!(refused, EmitError::NotKept { .. }), "{refused}");
    let later = Wave::builder("orders.created").unique("17").after(Duration::from_secs(1)).build();
    assert!(later.unwrap_err().to_string().contains("schedule"));
}
