//! The attacker's work, in a process of its own and without keys. It may subscribe and publish everywhere.

use std::time::Instant;

use aether::seal::{Role, SealKeys, Sealer};
use aether_core::Wave;
use aether_link::wire::{Position, Sender, encode_at};
use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use fastrand::Rng;
use futures::{FutureExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::attacks::process::{say, told};

/// How many messages are sent before the victims may follow.
pub(crate) const BATCH: u64 = 1000;

async fn listen(url: &str, to: &str) -> (Client, Subscriber) {
    let client = async_nats::connect(url).await.unwrap();
    let heard = client.subscribe(to.to_owned()).await.unwrap();
    processed(&client).await;
    say("listens");
    (client, heard)
}

/// The server has processed everything that the client was given before: it does so in order.
async fn processed(client: &Client) {
    let subject = client.new_inbox();
    let mut fence = client.subscribe(subject.clone()).await.unwrap();
    publish(client, subject, "").await;
    fence.next().await.unwrap();
}

/// The first message below a subject.
async fn overhear(heard: &mut Subscriber, beginning: &str) -> Message {
    loop {
        let message = heard.next().await.unwrap();
        if message.subject.starts_with(beginning) {
            return message;
        }
    }
}

async fn publish(client: &Client, subject: impl Into<String>, payload: impl Into<Bytes>) {
    client.publish(subject.into(), payload.into()).await.unwrap();
}

/// A plain frame.
fn plain(random: &mut Rng, text: &str) -> Bytes {
    let position = Position { stream: random.u64(..4), first: random.u64(..), age_micros: 0 };
    let sender = Sender { node: random.u64(..4), sent_micros: random.u64(..) };
    let waves = [Wave::from_bytes("any", text.to_owned()).unwrap()];
    encode_at(sender, Some(position), None, &waves[..random.usize(..2)], Instant::now()).unwrap()
}

/// Sends `count` hostile messages of all kinds: altered, repeated, cut, made with another key, plain, and no frames at all;
/// in the place of each message that it has overheard, so that each role and each subject has its share.
pub(crate) async fn flood(url: &str, count: u64) {
    let (client, mut heard) = listen(url, ">").await;
    told().await;
    // All messages of the victims so far are in the client's hands now.
    processed(&client).await;
    let mut real: Vec<Message> = Vec::new();
    while let Some(Some(message)) = heard.next().now_or_never() {
        let kind = |subject: &str| subject.split('.').take(3).map(str::to_owned).collect::<Vec<_>>();
        let known = real.iter().filter(|known| kind(&known.subject) == kind(&message.subject)).count();
        if known < 4 {
            real.push(message);
        }
    }
    heard.unsubscribe().await.unwrap();
    assert!(real.len() >= 8, "{} messages were overheard", real.len());
    let stranger = Sealer::new(SealKeys::generate().unwrap()).unwrap();
    let mut random = Rng::with_seed(count);
    for number in 1..=count {
        let [taken, place] = [0; 2].map(|_| &real[random.usize(..real.len())]);
        let (payload, subject) = (&taken.payload, place.subject.as_str());
        let message: Bytes = match random.u8(..7) {
            // Each bit of each byte, in its own place and in another's.
            0 | 1 if !payload.is_empty() => {
                let mut altered = payload.to_vec();
                altered[random.usize(..payload.len())] ^= 1 << random.u8(..8);
                altered.into()
            }
            2 => payload.clone(),
            3 if !payload.is_empty() => payload.slice(..random.usize(..payload.len())),
            4 => {
                let role = [Role::Waves, Role::Questions, Role::Control, Role::Answers, Role::Copies];
                stranger.seal(role[random.usize(..role.len())], subject, "", payload).unwrap()
            }
            5 => plain(&mut random, r#"{"id":1,"pattern":">","level":0,"lease_ms":1000}"#),
            _ => (0..random.usize(..200)).map(|_| random.u8(..)).collect(),
        };
        let own = random.bool();
        let subject = if own { taken.subject.clone() } else { place.subject.clone() };
        match place.reply.clone().filter(|_| random.bool()) {
            Some(reply) => client.publish_with_reply(subject, reply, message).await.unwrap(),
            None => client.publish(subject, message).await.unwrap(),
        }
        if number.is_multiple_of(BATCH) || number == count {
            processed(&client).await;
            say(format_args!("sent {number}"));
            told().await;
        }
    }
}

/// Announces `count` processes, each with 256 receivers of long names and a high floor.
pub(crate) async fn announce(url: &str, count: u64) {
    let (client, _heard) = listen(url, "nothing").await;
    told().await;
    let long = "y".repeat(200);
    for process in 1..=count {
        let hears: Vec<_> =
            (0..256).map(|number| format!(r#"{{"pattern":"x{process}p{number}{long}.*"}}"#)).collect();
        let text = format!(
            r#"[{{"vibrator":"fake@{:x}","hears":[{}],"floor":0.5,"effective_floor":0.5}}]"#,
            process + 10,
            hears.join(",")
        );
        publish(&client, "aether-ask._aether.vibrators", text).await;
        // As fast as the server takes them, and no faster.
        client.flush().await.unwrap();
    }
    processed(&client).await;
    say("done");
    told().await;
}

/// Repeats the first question on `shop.price` `count` times, which was asked with the highest amplitude.
pub(crate) async fn ask(url: &str, count: u64) {
    let (client, mut heard) = listen(url, "aether-ask.shop.price").await;
    let question = overhear(&mut heard, "aether-ask.shop.price").await;
    heard.unsubscribe().await.unwrap();
    say("overheard");
    told().await;
    for number in 1..=count {
        client
            .publish_with_reply(question.subject.clone(), "_INBOX.nobody.cares", question.payload.clone())
            .await
            .unwrap();
        if number.is_multiple_of(BATCH) {
            client.flush().await.unwrap();
        }
    }
    processed(&client).await;
    say("done");
    told().await;
}

/// Makes up `count` markers: at random, of the tokens of inquiries that it hears, and of the numbers of real markers.
pub(crate) async fn forge_markers(url: &str, count: u64) {
    let (client, mut heard) = listen(url, ">").await;
    let inquiry = overhear(&mut heard, "aether-ask.shop.").await.reply.unwrap();
    let (inbox, token) = inquiry.as_str().rsplit_once('.').unwrap();
    say("overheard");
    told().await;
    let mut random = Rng::with_seed(count);
    for number in 1..=count {
        let marker = match random.u8(..3) {
            0 => format!("{number:x}-{:016x}", random.u64(..)),
            1 => token.to_owned(),
            _ => format!("{:x}-{}", random.u64(..), token.split_once('-').unwrap().1),
        };
        publish(&client, format!("{inbox}.marker"), marker).await;
    }
    processed(&client).await;
    say("done");
    told().await;
}

/// Claims of everything that nobody hears it, in the server's place and at once. The client cannot send a status, so it
/// speaks the protocol itself.
pub(crate) async fn say_nobody_hears(url: &str) {
    let mut raw = TcpStream::connect(url.trim_start_matches("nats://")).await.unwrap();
    raw.set_nodelay(true).unwrap();
    raw.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").await.unwrap();
    let (_client, mut heard) = listen(url, "aether-ask.>").await;
    let headers = "NATS/1.0 503\r\n\r\n";
    let length = headers.len();
    while let Some(message) = heard.next().await {
        if let Some(reply) = message.reply {
            let said = format!("HPUB {reply} {length} {length}\r\n{headers}\r\n");
            raw.write_all(said.as_bytes()).await.unwrap();
        }
    }
}

/// Claims positions in the name of the first sender on `shop.load`: far ahead, in later streams, and back.
pub(crate) async fn forge_positions(url: &str, count: u64) {
    let (client, mut heard) = listen(url, "aether.shop.load").await;
    let frame = overhear(&mut heard, "aether.shop.load").await.payload;
    // Sealed frames show no node. The best guess is what lies at its place.
    let node = u64::from_le_bytes(frame[4..12].try_into().unwrap());
    say("overheard");
    told().await;
    let mut random = Rng::with_seed(count);
    for _ in 0..count {
        let stream = [0, 1, u64::MAX][random.usize(..3)];
        let position =
            Position { stream, first: random.u64(..) >> random.u8(..64), age_micros: random.u64(..1 << 40) };
        let frame =
            encode_at(Sender { node, sent_micros: 0 }, Some(position), None, &[], Instant::now()).unwrap();
        publish(&client, "aether.shop.load", frame).await;
    }
    processed(&client).await;
    say("done");
    told().await;
}
