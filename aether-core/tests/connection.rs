//! The connection of an `Aether` over NATS: that it breaks and is back is told, and which failures to connect may pass.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

use std::time::Duration;

use aether_core::conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Vibrator};

/// For what takes milliseconds on an idle machine. Nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_connection_that_breaks_and_is_back_is_told_until_the_medium_is_closed() {
    let mut server = NatsServer::start().await.unwrap();
    let aether = Aether::connect(&server.url()).await.unwrap();
    let mut connection = aether.connection();
    let changes = async {
        server.kill().await.unwrap();
        let broken = connection.changed().await.unwrap();
        assert!(!broken.connected);
        server.restart().await.unwrap();
        let mut back = connection.changed().await.unwrap();
        while !back.connected {
            back = connection.changed().await.unwrap();
        }
        assert_eq!(back.connects, 2);
        aether.close().await.unwrap();
        assert!(connection.changed().await.is_none());
        assert!(connection.changed().await.is_none(), "asked again it does not wait for ever");
    };
    tokio::time::timeout(LONG, changes).await.unwrap();
}

#[tokio::test]
async fn a_connection_does_not_keep_the_medium_open() {
    let server = NatsServer::start().await.unwrap();
    let aether = Aether::connect(&server.url()).await.unwrap();
    let mut connection = aether.connection();
    drop(aether);
    assert!(tokio::time::timeout(LONG, connection.changed()).await.unwrap().is_none());
    assert!(Aether::local().connection().changed().await.is_none());
}

#[tokio::test]
async fn what_the_server_has_not_confirmed_yet_is_in_flight_until_it_has() {
    let server = NatsServer::start().await.unwrap();
    let aether = Aether::connect(&server.url()).await.unwrap();
    let vibrator = Vibrator::create("shop", &aether).await.unwrap();
    for number in 0..100 {
        vibrator.emit_wave("orders.created", &number).await.unwrap();
    }
    aether.flush().await.unwrap();
    let status = aether.status();
    assert_eq!((status.outbox.delivered, status.in_flight, status.unconfirmed), (100, 0, 0));
    aether.close().await.unwrap();
}

#[tokio::test]
async fn only_a_server_that_does_not_answer_may_be_reached_later() {
    let options = ServerOptions::default().setting("authorization", "{ user: shop, password: right }");
    let server = NatsServer::start_with(options).await.unwrap();
    let refused = format!("nats://shop:wrong@127.0.0.1:{}", server.port());
    // Nobody has port 1.
    for (url, is_transient) in [
        ("nats://127.0.0.1:1", true),
        (&refused, false),
        ("nats://127.0.0.1:99999", false),
        ("amqp://a", false),
        ("a", false),
    ] {
        let error = Aether::connect(url).await.unwrap_err();
        assert_eq!(error.is_transient(), is_transient, "{error:?}");
    }
}
