//! Stored messages that the client of NATS cannot parse: it takes them for a broken connection.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::durable::stage::{Place, connect, order, quick, receive, text};

/// Publishes messages with these headers, past every client, and waits until the server has them.
async fn publish(url: &str, subject: &str, headers: &[u8], times: usize) {
    let address = url.strip_prefix("nats://").unwrap();
    let mut server = BufReader::new(TcpStream::connect(address).await.unwrap());
    let line = format!("HPUB {subject} {0} {0}\r\n", headers.len());
    let hello: &[u8] = b"CONNECT {\"headers\":true,\"verbose\":false}\r\n";
    let messages = [line.as_bytes(), headers, b"\r\n"].concat().repeat(times);
    for part in [hello, &messages, b"PING\r\n"] {
        server.get_mut().write_all(part).await.unwrap();
    }
    let mut answer = String::new();
    while !answer.ends_with("PONG\r\n") {
        assert!(server.read_line(&mut answer).await.unwrap() > 0 && !answer.contains("-ERR"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_comes_past_messages_whose_headers_the_client_cannot_read() {
    let place = Place::jetstream().await;
    let Place::JetStream { server, .. } = &place else { unreachable!() };
    let log = place.open().await;
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    shop.emit(order("before", 0.5)).await.unwrap();
    for headers in
        [&b"NATS/1.0\r\nTrace Id: 1\r\n\r\n"[..], b"NATS/1.0\r\nk: caf\xe9\r\n\r\n", b"NATS/2.0\r\n\r\n"]
    {
        publish(&server.url(), "aether-log.shop.orders.created", headers, 100).await;
    }
    shop.emit(order("behind", 0.5)).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", quick()).unwrap();
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 2 {
        let delivery = receive(&consumer).await;
        heard.insert(text(&delivery));
        delivery.ack().await.unwrap();
    }
    assert!(heard.contains("before") && heard.contains("behind"), "{heard:?}");
    // The last of them may be looked at when the waves are there already.
    let within = tokio::time::timeout(std::time::Duration::from_secs(180), async {
        while consumer.account().await.unwrap().expired < 300 {}
    });
    within.await.expect("each of them is passed over and counted");
}
