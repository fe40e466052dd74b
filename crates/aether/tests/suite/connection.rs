//! The connection of an `Aether` over NATS: notifications of its loss and return, and which connect errors are
//! transient.

use aether::paths::WithPaths as _;
use std::time::Duration;

use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, Vibrator, Wave};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::settling::flushed;

/// A bound for what takes milliseconds on an idle machine. No test waits for it to elapse.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn loss_and_return_of_the_connection_are_reported_until_the_medium_is_closed() {
    let mut server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut connection = aether.connection();
    let changes = async {
        server.kill().await.unwrap();
        // That it was made may be reported late.
        while connection.changed().await.unwrap().connected {}
        server.restart().await.unwrap();
        let mut back = connection.changed().await.unwrap();
        while !back.connected {
            back = connection.changed().await.unwrap();
        }
        assert_eq!(back.connects, 2);
        aether.close().await.unwrap();
        assert!(connection.changed().await.is_none());
        assert!(connection.changed().await.is_none(), "a second call does not wait forever");
    };
    tokio::time::timeout(LONG, changes).await.unwrap();
}

#[tokio::test]
async fn a_connection_does_not_keep_the_medium_open() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut connection = aether.connection();
    drop(aether);
    assert!(tokio::time::timeout(LONG, connection.changed()).await.unwrap().is_none());
    assert!(Aether::local().connection().changed().await.is_none());
}

#[tokio::test]
async fn what_is_dropped_while_its_server_is_away_ends() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut server = NatsServer::start().await.unwrap();
    for waiting in [0, 10] {
        let before = tasks();
        let aether = aether::connect(&server.url()).await.unwrap();
        let mut connection = aether.connection();
        let vibrator = Vibrator::create("shop", &aether).await.unwrap();
        vibrator.resonate_on("orders.*").await.unwrap();
        server.kill().await.unwrap();
        while connection.changed().await.unwrap().connected {}
        for number in 0..waiting {
            vibrator.emit_wave("orders.created", &number).await.unwrap();
        }
        assert!(tasks() > before);
        drop((vibrator, aether));
        let ended = async {
            while tasks() > before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, ended).await.expect("its tasks and its client end");
        server.restart().await.unwrap();
    }
}

#[tokio::test]
async fn waves_are_in_flight_until_the_server_confirms_them() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let vibrator = Vibrator::create("shop", &aether).await.unwrap();
    for number in 0..100 {
        vibrator.emit_wave("orders.created", &number).await.unwrap();
    }
    flushed(&aether).await;
    let status = aether.status();
    assert_eq!((status.outbox.delivered, status.in_flight, status.unconfirmed), (100, 0, 0));
    aether.close().await.unwrap();
}

#[tokio::test]
async fn credentials_in_the_address_are_shown_to_the_server() {
    for (authorization, right, wrong) in [
        (r#"{ user: shop, password: "a@b:c" }"#, "shop:a%40b%3Ac@", "shop:abc@"),
        (r#"{ token: "s3cret" }"#, "s3cret@", "secret@"),
    ] {
        let options = ServerOptions::default().setting("authorization", authorization);
        let mut server = NatsServer::start_with(options).await.unwrap();
        let url = |credentials: &str| format!("nats://{credentials}127.0.0.1:{}", server.port());
        assert!(aether::connect(&url("")).await.is_err());
        assert!(aether::connect(&url(wrong)).await.is_err());
        let aether = aether::connect(&url(right)).await.unwrap();
        let mut connection = aether.connection();
        server.kill().await.unwrap();
        while connection.changed().await.unwrap().connected {}
        server.restart().await.unwrap();
        while !connection.changed().await.unwrap().connected {}
        aether.close().await.unwrap();
    }
}

#[tokio::test]
async fn only_an_unreachable_server_is_a_transient_error() {
    let options = ServerOptions::default().setting("authorization", "{ user: shop, password: right }");
    let server = NatsServer::start_with(options).await.unwrap();
    let refused = format!("nats://shop:wrong@127.0.0.1:{}", server.port());
    // Nothing listens on port 1.
    for (url, is_transient) in [
        ("nats://127.0.0.1:1", true),
        (&refused, false),
        ("nats://127.0.0.1:99999", false),
        ("amqp://a", false),
        ("a", false),
    ] {
        let error = aether::connect(url).await.unwrap_err();
        assert_eq!(error.is_transient(), is_transient, "{error:?}");
    }
}

#[tokio::test]
async fn no_password_and_no_token_of_an_address_is_shown() {
    let builder =
        aether::builder().url("nats://shop:s3cret@a:4222").path("nats://s3cret@b").path("tls://x:s3cret@c");
    let shown = format!("{builder:?}");
    assert!(!shown.contains("s3cret") && shown.contains("nats://***@b tls://***@c"), "{shown}");
    // With a comma it is not an address, and still a password.
    for address in
        ["nats://shop:s3cret,s3cret@127.0.0.1:1", "nats://shop:s3cret@127.0.0.1:1", "s3://shop:s3cret@a"]
    {
        let error = aether::connect(address).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error} {error:?}");
    }
}

/// A server that answers pings and delivers nothing, for one connection: its URL, that the first message was published,
/// and its end when the connection is closed.
async fn deaf_server() -> (String, oneshot::Receiver<()>, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (published, is_published) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let info = format!(
            r#"{{"server_id":"d","server_name":"d","version":"2.10.0","go":"","proto":1,"host":"127.0.0.1","port":{port},"headers":true,"max_payload":1048576,"client_id":1}}"#
        );
        write.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let (mut lines, mut published) = (BufReader::new(read).lines(), Some(published));
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("PING") {
                // The client may have gone.
                let _ = write.write_all(b"PONG\r\n").await;
            } else if line.starts_with("PUB")
                && let Some(published) = published.take()
            {
                let _ = published.send(());
            }
        }
    });
    (format!("nats://127.0.0.1:{port}"), is_published, serving)
}

#[tokio::test]
async fn a_connect_that_is_cancelled_leaves_no_connection_behind() {
    let (url, is_published, serving) = deaf_server().await;
    let connecting = tokio::spawn(async move { aether::connect(&url).await });
    // That is the first marker, for which it waits now.
    tokio::time::timeout(LONG, is_published).await.unwrap().unwrap();
    assert!(!connecting.is_finished());
    connecting.abort();
    tokio::time::timeout(LONG, serving).await.expect("the connection is closed").unwrap();
}

/// The address of a server without its errors, for one connection.
async fn without_errors(server: &NatsServer) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let port = server.port();
    tokio::spawn(async move {
        let (mut reads, mut writes) = listener.accept().await.unwrap().0.into_split();
        let (from_server, mut to_server) =
            TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut reads, &mut to_server).await });
        let (mut from_server, mut line) = (BufReader::new(from_server), Vec::new());
        while from_server.read_until(b'\n', &mut line).await.is_ok_and(|bytes| bytes > 0) {
            if !line.starts_with(b"-ERR") && writes.write_all(&line).await.is_err() {
                return;
            }
            line.clear();
        }
    });
    url
}

#[tokio::test]
async fn a_server_that_reports_no_errors_is_used_like_any_other() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&without_errors(&server).await).await.unwrap();
    flushed(&aether).await;
    let mut hears = Vibrator::create("hears", &aether).await.unwrap();
    hears.resonate_on("orders.*").await.unwrap();
    let wave = Wave::from_bytes("orders.created", "x").unwrap();
    aether.emitter("shop").unwrap().emit_confirmed(wave).await.unwrap();
    assert!(tokio::time::timeout(LONG, hears.receive()).await.unwrap().is_some());
    aether.close().await.unwrap();
}
