//! Emits that wait for the broker, and what emits accept.

use std::time::Duration;

use aether::nats::NatsOptions;
use aether_conformance::NatsServer;
use aether_core::{
    Aether, ConfirmError, EmitError, InboxOptions, Kind, ShedReason, Vibrator, Wave, WhenFull,
};
use tokio::time::timeout;

use crate::settling::flushed;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn in_process_a_confirmed_emit_is_an_emit() {
    let aether = Aether::local();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("stock.*").await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let receipt = shop.emit_confirmed(Wave::builder("stock.commit").text("a lamp")).await.unwrap();
    assert_eq!((receipt.sequence, receipt.receivers), (1, Some(1)));
    assert_eq!(stock.receive().await.unwrap().text().unwrap(), "a lamp");
    aether.close().await.unwrap();
    let closed = shop.emit_confirmed(Wave::builder("stock.commit")).await;
    assert!(matches!(closed, Err(ConfirmError::Emit(EmitError::Closed { .. }))), "{closed:?}");
    assert_eq!(shop.account().numbered, 1, "a refused wave has no number");
}

/// A plain emit is Ok, because the outbox takes the wave; nobody ever learns that the server did not get it.
#[tokio::test]
async fn a_command_that_a_stuck_server_does_not_take_is_an_error() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let command = || Wave::builder("stock.commit").kind(Kind::Command).text("a lamp");
    timeout(PATIENCE, shop.emit_confirmed(command())).await.expect("in time").unwrap();
    server.stop().await.unwrap();
    shop.emit(command()).await.unwrap();
    let emitted = timeout(PATIENCE, shop.emit_confirmed(command())).await.expect("in time");
    let Err(ConfirmError::Unconfirmed { id, .. }) = emitted else { panic!("{emitted:?}") };
    assert_eq!((id.source, id.sequence), (shop.source().clone(), 3));
    server.resume().unwrap();
    // The waves that it did not take may need longer than a confirmed emit waits.
    flushed(&aether).await;
    timeout(PATIENCE, shop.emit_confirmed(command())).await.expect("in time").unwrap();
    assert_eq!(aether.status().outbox.delivered, 4);
}

#[tokio::test]
async fn a_wave_that_the_outbox_sheds_is_named_and_others_are_not_blamed() {
    let mut server = NatsServer::start().await.unwrap();
    let outbox = InboxOptions::interactive().max_waves(8).when_full(WhenFull::Shed);
    let options = NatsOptions::default().outbox(outbox);
    let aether = aether::builder().url(server.url()).options(options).connect().await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    let mut connection = aether.connection();
    server.kill().await.unwrap();
    // That it was made may be reported late.
    let broken = async { while connection.changed().await.unwrap().connected {} };
    timeout(PATIENCE, broken).await.expect("in time");
    let of = |amplitude: f32| Wave::builder("stock.commit").amplitude(amplitude).never_decays();
    for _ in 0..8 {
        shop.emit(of(0.5)).await.unwrap();
    }
    let weak = timeout(PATIENCE, shop.emit_confirmed(of(0.1))).await.expect("in time");
    let Err(ConfirmError::Shed { id, reason: Some(ShedReason::Full) }) = weak else { panic!("{weak:?}") };
    assert_eq!(id.sequence, 9);
    // A strong wave takes the place of a weaker one, which is shed. That is not held against it. The outbox is filled
    // again, because the writer may have taken a wave for an attempt.
    for _ in 0..8 {
        shop.emit(of(0.5)).await.unwrap();
    }
    let shed = aether.status().outbox.shed_full;
    let strong = timeout(PATIENCE, shop.emit_confirmed(of(0.9))).await.expect("in time");
    let Err(ConfirmError::Unconfirmed { id, .. }) = strong else { panic!("{strong:?}") };
    assert_eq!((id.sequence, aether.status().outbox.shed_full), (18, shed + 1));
}

#[tokio::test]
async fn emits_and_questions_take_builders_and_channels_take_borrowed_strings() {
    let aether = Aether::local();
    let channel = String::from("stock.count");
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on(&channel).await.unwrap();
    let shop = aether.emitter("shop").unwrap();
    shop.emit(Wave::builder(&channel).amplitude(0.9).text("one")).await.unwrap();
    shop.try_emit(Wave::builder(&channel).text("two")).unwrap();
    shop.emit_wave(&channel, &"three").await.unwrap();
    for text in ["one", "two", "\"three\""] {
        assert_eq!(stock.receive().await.unwrap().text().unwrap(), text);
    }
    let answering = async { stock.receive().await.unwrap().reply(&4).await.unwrap() };
    let (asked, ()) = tokio::join!(shop.ask(Wave::builder(&channel).kind(Kind::Query)), answering);
    assert_eq!(asked.unwrap().json::<u32>().unwrap(), 4);
    let wrong = shop.emit(Wave::builder("stock count")).await.unwrap_err();
    let text =
        "character ' ' at byte 5 of \"stock count\" is not allowed: use printable ASCII without spaces";
    assert_eq!(wrong.to_string(), text, "the mistake, and it is named once");
    assert!(std::error::Error::source(&wrong).is_none());
}
