//! Waves that are larger than the medium takes: a log takes them, up to its own limit.

use std::time::Duration;

use aether_core::{EmitError, Kind, Vibrator, Wave};
use aether_log::ConsumerOptions;

use crate::bus::stage::{billing, connect, open, position, receive, wave};

const MIB: usize = 1 << 20;

fn large(bytes: usize) -> Wave {
    Wave::builder("orders.created").kind(Kind::Command).bytes(vec![7; bytes]).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_that_the_medium_does_not_take_is_stored_and_not_heard_live() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let server = aether_conformance::NatsServer::start().await.unwrap();
    let of_server = log.connect(aether::builder().url(server.url())).await.unwrap();
    let local = connect(&log).await;
    let consumer = billing(&log);
    for aether in [of_server, local] {
        let mut live = Vibrator::create("live", &aether).await.unwrap();
        live.resonate_on("orders.>").await.unwrap();
        let shop = aether.emitter("shop").unwrap();
        let emitted = shop.emit(large(60 * MIB)).await.unwrap();
        let confirmed = shop.emit_confirmed(large(2 * MIB)).await.unwrap();
        let batch = shop.emit_all([wave(1, 0.5), large(3 * MIB), wave(2, 0.5)]).await.unwrap();
        assert_eq!((emitted.receivers, confirmed.receivers), (Some(0), Some(0)), "nobody hears them live");
        assert_eq!((position(&confirmed), batch.emitted), (position(&emitted) + 1, 3));
        for expected in [60 * MIB, 2 * MIB, 1, 3 * MIB, 1] {
            let delivery = receive(&consumer).await;
            assert_eq!(delivery.wave().payload().len(), expected);
            delivery.ack().await.unwrap();
        }
        for expected in ["1", "2"] {
            assert_eq!(live.receive().await.unwrap().text().unwrap(), expected);
        }
        assert_eq!(aether.dead_letters().list().len(), 0, "consumers of the log hear them");
        assert_eq!(aether.status().outbox.shed_unsendable, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_beyond_the_limit_of_a_log_is_handed_back_with_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let shop = connect(&log).await.emitter("shop").unwrap();
    let refused = shop.emit(large(65 * MIB)).await.unwrap_err();
    let EmitError::TooLarge { wave, bytes, max_bytes } = refused else { panic!("{refused:?}") };
    assert_eq!((wave.payload().len(), bytes, max_bytes), (65 * MIB, 65 * MIB, 64 * MIB - (128 << 10)));
    // The largest one can be given up.
    shop.emit(large(max_bytes)).await.unwrap();
    let options = ConsumerOptions::default().max_attempts(2.try_into().unwrap());
    let pauses = options.pauses(Duration::from_millis(1), Duration::from_millis(4));
    let consumer = log.consumer("once", "orders.>", pauses).unwrap();
    for _ in 0..2 {
        receive(&consumer).await.nack(&"no ink".repeat(100));
    }
    shop.emit(super::stage::wave(1, 0.5)).await.unwrap();
    receive(&consumer).await.ack().await.unwrap();
    let letter = log.dead().show(log.dead().numbers()[0]).unwrap();
    assert_eq!(letter.stored.wave.payload().len(), max_bytes);
}
