//! Paths that cannot be connected: now, or at all.

use aether::paths::{MAX_PATHS, PathError, PathState, WithPaths as _};
use aether_conformance::NatsServer;
use aether_core::{ConnectError, Vibrator};

use super::{heard, listener, process, until_in_use};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_there_yet_is_used_when_it_comes_with_all_that_was_joined_meanwhile() {
    let mut late = NatsServer::start().await.unwrap();
    let other = NatsServer::start().await.unwrap();
    late.kill().await.unwrap();
    let here = process(&[&late.url(), &other.url()]).await;
    assert_eq!(
        aether::paths::paths(&here).iter().map(|path| path.state).collect::<Vec<_>>(),
        [PathState::NotConnected, PathState::InUse]
    );
    let mut ear = listener(&here, "orders.*").await;
    late.restart().await.unwrap();
    until_in_use(&here, 0).await;
    // One that has only this path.
    let alone = aether::connect(&late.url()).await.unwrap();
    let shop = Vibrator::create("shop", &alone).await.unwrap();
    for number in 0..3 {
        shop.emit_wave("orders.a", &number).await.unwrap();
        assert_eq!(heard(&mut ear).await, number.to_string());
    }
    ear.detune("orders.*").unwrap();
    here.close().await.unwrap();
    alone.close().await.unwrap();
}

#[tokio::test]
async fn if_no_path_is_there_connecting_fails_and_may_be_tried_again() {
    // Nobody has port 1.
    let builder = aether::builder().path("nats://u:secret@127.0.0.1:1").path("nats://[::1]:1");
    let error = builder.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }) && error.is_transient(), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("secret"));
}

#[tokio::test]
async fn paths_that_cannot_be_paths_are_refused() {
    let server = NatsServer::start().await.unwrap();
    let url = &*server.url();
    let refused = async |paths: &[&str]| {
        let builder = paths.iter().fold(aether::builder(), |builder, path| builder.path(*path));
        builder.connect().await.unwrap_err()
    };
    let alone = refused(&[url, "local:"]).await;
    assert!(matches!(alone.of_medium(), Some(PathError::Alone { url }) if url == "local:"), "{alone:?}");
    let twice = refused(&[url, "nats://u:secret@h:1", "nats://u:secret@h:1"]).await;
    assert!(
        matches!(twice.of_medium(), Some(PathError::Twice { url }) if url == "nats://***@h:1"),
        "{twice:?}"
    );
    let scheme = refused(&[url, "amqp://h"]).await;
    assert!(matches!(scheme, ConnectError::Scheme { .. }), "{scheme:?}");
    let urls: Vec<_> = (0..=MAX_PATHS).map(|port| format!("nats://h:{}", port + 1)).collect();
    let many = refused(&urls.iter().map(|url| &**url).collect::<Vec<_>>()).await;
    assert!(matches!(many.of_medium(), Some(PathError::TooMany { given: 9, most: 8 })), "{many:?}");
}

#[tokio::test]
async fn one_path_is_an_address_like_any_other() {
    let aether = aether::builder().path("local:").connect().await.unwrap();
    assert!(aether::paths::paths(&aether).is_empty() && !aether.promises().crosses_processes);
    aether.close().await.unwrap();
}
