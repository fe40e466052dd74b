//! Publishes bytes that no client writes.

use std::future::ready;
use std::time::Duration;

use aether::nats::NatsClient;
use aether::nats::NatsOptions;
use async_nats::ConnectOptions;
use bytes::Bytes;
use futures::StreamExt as _;

/// Headers that the client of NATS cannot parse.
pub(crate) const HEADERS: [&[u8]; 8] = [
    b"NATS/1.0\r\nTrace Id: 1\r\n\r\n",
    b"NATS/1.0\r\ncaf\xc3\xa9: 1\r\n\r\n",
    b"NATS/1.0\r\nk: caf\xe9\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/2.0\r\n\r\n",
    b"\r\n\r\n",
    b"NATS/1.0 abc\r\n\r\n",
    b"NATS/1.0 99999\r\n\r\n",
];

/// One form for each kind of headers, and two for subjects, all below a subject.
pub(crate) fn forms(subject: &str) -> Vec<Vec<u8>> {
    let with_headers = HEADERS.iter().map(|headers| {
        let (length, total) = (headers.len(), headers.len() + 4);
        [format!("HPUB {subject} {length} {total}\r\n").as_bytes(), headers, b"text\r\n"].concat()
    });
    let subjects = [
        [format!("PUB {subject}caf").as_bytes(), b"\xe9 4\r\ntext\r\n"].concat(),
        // A space of Unicode, and headers.
        format!("HPUB {subject}\u{a0}x 12 16\r\nNATS/1.0\r\n\r\ntext\r\n").into_bytes(),
    ];
    with_headers.chain(subjects).collect()
}

/// A client whose publications end in the middle of its protocol.
pub(crate) struct Attacker(NatsClient);

impl Attacker {
    pub(crate) async fn connect(url: &str, options: &NatsOptions) -> Self {
        let servers = [url.parse().unwrap()];
        let careless = |options: ConnectOptions| options.skip_subject_validation(true);
        Self(options.connect_client(&servers, careless, |_| ready(())).await.unwrap())
    }

    /// Publishes each of these so often, and waits until the server has them all.
    pub(crate) async fn publish(&self, messages: &[Vec<u8>], times: usize) {
        let mut done = self.0.subscribe("done").await.unwrap();
        for message in messages {
            let mut bytes = message.repeat(times);
            // The line of the client's own message becomes the payload of one to `x`, and its end the payload of
            // another one.
            bytes.extend_from_slice(b"PUB x 0\r\n");
            let line = 1 + bytes.len().to_string().len();
            self.0.publish(format!("x {line}\r\n"), Bytes::from(bytes)).await.unwrap();
        }
        self.0.publish("done", Bytes::new()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), done.next())
            .await
            .expect("the server has them")
            .unwrap();
    }
}
