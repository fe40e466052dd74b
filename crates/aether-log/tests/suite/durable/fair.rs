//! Fair between tenants: the promise on each kind of log.

use std::num::NonZeroU32;

use aether_core::Wave;
use aether_log::{Tenant, WeightError};

use crate::durable::stage::{Place, connect, quick, receive};

pub(crate) async fn d19_each_tenant_gets_its_part_whatever_the_others_emit(place: &Place) {
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    // The flood is the strongest, and the last: what is pulled from a server first gets no more for it.
    for (tenant, waves, amplitude) in [("small", 30, 0.2), ("large", 90, 0.1), ("flood", 300, 1.0)] {
        for _ in 0..waves {
            let wave = Wave::builder(format!("orders.{tenant}.created")).amplitude(amplitude);
            shop.emit(wave.text("a lamp").build().unwrap()).await.unwrap();
        }
    }
    let consumer = log.consumer("billing", "orders.>", quick().fair_by(Tenant::Token(1))).unwrap();
    consumer.set_weight("large", NonZeroU32::new(3).unwrap()).unwrap();
    let mut of_flood = 0;
    for _ in 0..150 {
        let delivery = receive(&consumer).await;
        of_flood += u32::from(delivery.wave().channel().as_str() == "orders.flood.created");
        delivery.ack().await.unwrap();
    }
    assert!((29..=31).contains(&of_flood), "one part of five: {of_flood}");
    for _ in 0..270 {
        receive(&consumer).await.ack().await.unwrap();
    }
    let account = consumer.account().await.unwrap();
    assert_eq!((account.acknowledged, account.waiting), (420, 0), "{account:?}");
    let plain = log.consumer("archive", "orders.>", quick()).unwrap();
    assert_eq!(plain.set_weight("large", NonZeroU32::MIN), Err(WeightError::NotFair));
}
