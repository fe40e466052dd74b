//! A stranger with a session of Zenoh and without the secret: it sees tokens, hears what is sealed, and sends, repeats and
//! shows what it likes. Processes with the secret go on, count it by reason, and need no more memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;
use zenoh::Session;
use zenoh::qos::CongestionControl;

use crate::lan::besieged::{Besieged, PORT, goes_on};
use crate::lan::machine::say;

/// The tokens that it shows at once, and as many subscriptions.
const SHOWN: usize = 500;
/// All that it shows. Measured with Zenoh 1.10: 12,500 pairs cost 32 MB, and each took longer than the one before.
const SHOWN_IN_ALL: u64 = 2000;
/// One packet in this number shows another token, and subscribes to another node.
const SHOWS_ONE_IN: u64 = 16;
/// The messages of others that it records.
const RECORDED: usize = 100;
/// Behind the lane, the magic and the version.
const KEY_ID: std::ops::Range<usize> = 5..13;

#[test]
fn two_machines_go_on_while_a_stranger_in_their_network_of_zenoh_sends_repeats_and_shows_what_it_likes() {
    let Some(mut besieged) = Besieged::start() else { return };
    let started = Instant::now();
    let stranger = besieged.attack("stranger");
    let said = stranger.says("intruded");
    let [recorded, first, second] = numbers(&said)[..] else { panic!("{said}") };
    let packets = besieged.packets;
    println!("{packets} packets in {:?}: {first} to one and {second} to the other", started.elapsed());
    assert!(recorded > 0, "it hears what is sealed");
    besieged.go_on();
    let refused = besieged.listener.counts("refused");
    let [plain, unknown_key, tampered, replayed, malformed] = refused[..] else { panic!("{refused:?}") };
    println!(
        "plain {plain}, unknown key {unknown_key}, tampered {tampered}, replayed {replayed}, malformed {malformed}"
    );
    assert!(
        [plain, unknown_key, tampered, replayed, malformed].iter().all(|count| *count > 0),
        "{refused:?}"
    );
    // The stranger does not know which of the two it is.
    let (sent, counted) = (first.min(second), refused.iter().sum::<u64>());
    assert!(counted > 0 && counted >= sent * 9 / 10, "{sent} were sent to it, and {counted} counted");
}

fn numbers(said: &str) -> Vec<u64> {
    said.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

async fn session() -> Session {
    let mut config = zenoh::Config::default();
    let mut set = |key: &str, value: &str| config.insert_json5(key, value).unwrap();
    set("mode", "\"peer\"");
    set("connect/endpoints", &format!("[\"tcp/10.77.0.2:{PORT}\"]"));
    zenoh::open(config).await.unwrap()
}

/// In the role of the stranger: sends `packets` packets. Prints how many it recorded, and how many it sent to each of
/// the two.
pub(crate) async fn intrude(packets: u64) {
    let session = session().await;
    let mut nodes = Vec::new();
    while nodes.len() < 2 {
        let replies = session.liveliness().get("aether/*/*").await.unwrap();
        nodes.clear();
        while let Ok(reply) = replies.recv_async().await {
            // The number, without its proof.
            let token = reply.result().unwrap().key_expr().to_string();
            let (realm, shown) = token.rsplit_once('/').unwrap();
            nodes.push(format!("{realm}/{}", &shown[..16]));
        }
    }
    let recorded = Arc::<Mutex<Vec<(String, Vec<u8>)>>>::default();
    let enough = Arc::new(Notify::new());
    let _spy = session
        .declare_subscriber("aether/*/*/in")
        .callback({
            let (recorded, enough) = (Arc::clone(&recorded), Arc::clone(&enough));
            move |sample| {
                let mut recorded = recorded.lock().unwrap();
                // Later messages may be its own.
                if recorded.len() < RECORDED {
                    recorded.push((sample.key_expr().to_string(), sample.payload().to_bytes().into_owned()));
                    enough.notify_one();
                }
            }
        })
        .await
        .unwrap();
    while recorded.lock().unwrap().len() < RECORDED {
        enough.notified().await;
    }
    let realm = nodes[0].split('/').nth(1).unwrap().to_owned();
    let mut to_each = [0_u64; 2];
    let (mut tokens, mut ears) = (VecDeque::new(), VecDeque::new());
    for number in 0..packets {
        let (key, frame) = {
            let recorded = recorded.lock().unwrap();
            recorded[fastrand::usize(..recorded.len())].clone()
        };
        let (key, packet) = match number % 8 {
            // Nothing that begins with a lane.
            0 => (key, random(0)),
            // Not sealed: a message of the protocol as it would be without a secret.
            1 => (key, [&[1, 2, fastrand::u8(1..=12)], &random(0)[..]].concat()),
            // Another key, and one changed bit somewhere behind it.
            2 => (key, changed(frame, KEY_ID)),
            3 | 4 => {
                let length = frame.len();
                (key, changed(frame, KEY_ID.end..length))
            }
            // To another machine than it was for, and to nobody.
            5 => (nodes[fastrand::usize(..nodes.len())].clone() + "/in", changed(frame, 0..1)),
            6 => (format!("aether/{realm}/{:016x}/in", fastrand::u64(..)), frame),
            _ => (key, frame),
        };
        for (node, sent) in nodes.iter().zip(&mut to_each) {
            *sent += u64::from(key.strip_suffix("/in") == Some(node));
        }
        let put = session.put(key, packet).congestion_control(CongestionControl::Block);
        put.await.unwrap();
        goes_on(number);
        if number % SHOWS_ONE_IN == 0 && number / SHOWS_ONE_IN < SHOWN_IN_ALL {
            let name = format!("aether/{realm}/{:016x}", fastrand::u64(..));
            ears.push_back(session.declare_subscriber(format!("{name}/in")).await.unwrap());
            tokens.push_back(session.liveliness().declare_token(name).await.unwrap());
            if tokens.len() > SHOWN {
                drop((tokens.pop_front(), ears.pop_front()));
            }
        }
    }
    let recorded = recorded.lock().unwrap().len();
    say(format_args!("intruded {recorded} {} {}", to_each[0], to_each[1]));
    session.close().await.unwrap();
}

fn random(least: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(fastrand::usize(least..1200)).collect()
}

/// A frame with one bit of a range changed.
fn changed(mut frame: Vec<u8>, range: std::ops::Range<usize>) -> Vec<u8> {
    let place = fastrand::usize(range);
    frame[place] ^= 1 << fastrand::u8(..8);
    frame
}
