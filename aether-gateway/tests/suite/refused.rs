//! Requests that are refused with a reason, and answers that pass through a proxy.

use aether_core::Aether;
use aether_gateway::{Archive, Gateway, GatewayOptions, StartError};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::api::{request, socket};
use crate::support::{self, raw};

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_read_are_refused_and_not_emitted() {
    let running = support::run(&Aether::local(), GatewayOptions::default()).await;
    for (header, says) in [
        ("content-encoding: gzip\r\ncontent-type: application/json", "gzip"),
        ("content-type: application/cloudevents+avro", "cloudevents+avro"),
    ] {
        let (code, body) = request(&running, &format!("POST /waves/a.b HTTP/1.1\r\n{header}"), "{}").await;
        assert!(code == 415 && body.contains(says), "{code} {body}");
    }
    let plain = "POST /waves/a.b HTTP/1.1\r\ncontent-encoding: identity\r\ncontent-type: application/json";
    assert_eq!(request(&running, plain, "{}").await.0, 202);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_host() {
    let running = support::run(&Aether::local(), GatewayOptions::default()).await;
    let code =
        async |head: &str| raw(running.address, &format!("{head}connection: close\r\n\r\n")).await.code;
    assert_eq!(code("GET / HTTP/1.1\r\n").await, 400);
    assert_eq!(code("GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n").await, 400);
    assert_eq!(code("GET / HTTP/1.1\r\nhost: localhost\r\n").await, 200);
    assert_eq!(code("GET / HTTP/1.0\r\n").await, 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_asks_proxies_not_to_collect_it() {
    let running = support::run(&Aether::local(), GatewayOptions::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /waves HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("\r\nx-accel-buffering: no\r\n"), "{head}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_read_to_its_end_closes_the_socket_with_a_code() {
    let running = support::run(&Aether::local(), GatewayOptions::default()).await;
    let mut client = socket(&running).await;
    // One byte more than a frame may have, so that all of it is on its way before the answer.
    client.send(Message::text("x".repeat(262_145))).await.unwrap();
    let code = loop {
        match client.next().await {
            Some(Ok(Message::Close(Some(close)))) => break u16::from(close.code),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 1009);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_cannot_be_written_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.redb");
    std::fs::write(&garbage, "no archive").unwrap();
    for path in [folder.path().join("nowhere/x.redb"), garbage.clone()] {
        let options =
            GatewayOptions::default().listen(support::any_port()).archive(Some(Archive::new(&path)));
        let error = Gateway::start(&Aether::local(), options).await.unwrap_err();
        assert!(matches!(error, StartError::Archive(_)), "{error}");
    }
    assert_eq!(std::fs::read(&garbage).unwrap(), b"no archive");
}
