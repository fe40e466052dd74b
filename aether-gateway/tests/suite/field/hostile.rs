//! Clients that mean no good, and those that cannot do better.

use std::time::{Duration, Instant};

use aether_core::Aether;
use aether_gateway::{FieldOptions, SecurityLimits};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::field::client::{BUSY, Client, PATIENCE, Tab, now};
use crate::field::server::Server;
use crate::support::StoppedTime;

const UPGRADE: &str = "GET /field/home/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn case_10_thousands_that_connect_and_drop_lock_nobody_out() {
    let aether = Aether::local();
    let mut limits = SecurityLimits::default();
    // A place that was kept until a time is over would be kept for longer than the good client waits.
    limits.handshake_timeout = 100 * PATIENCE;
    limits.ping_interval = 100 * PATIENCE;
    limits.max_silence = 300 * PATIENCE;
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    let address = server.address;
    // 10,000 connections from one source: each sends a whole request, part of one, or part of a frame, and drops.
    let mut waves = tokio::task::JoinSet::new();
    for worker in 0..50 {
        waves.spawn(async move {
            for number in 0..200 {
                let Ok(mut stream) = TcpStream::connect(address).await else { continue };
                let request = UPGRADE.as_bytes();
                let sent = match (worker + number) % 3 {
                    0 => stream.write_all(request).await,
                    1 => stream.write_all(&request[..40]).await,
                    _ => stream.write_all(&[request, &[0x81, 0xfe, 0xff]].concat()).await,
                };
                // The connection may have been closed to make room.
                drop(sent);
            }
        });
    }
    while waves.join_next().await.is_some() {}
    let opened = async {
        loop {
            let Ok(mut tab) = Tab::try_connect(address, "/field/home/ws", &[]).await else { continue };
            match tab.hear().await {
                crate::field::client::Heard::Json(hello) => return assert_eq!(hello["type"], "hello"),
                // The places of the last ones are given back when the gateway has read their ends.
                crate::field::client::Heard::Closed(why) => assert_eq!(why.map(|(code, _)| code), Some(BUSY)),
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("a good client gets in");
    server.stop().await;
}

#[tokio::test]
async fn case_10_a_source_beyond_its_places_is_busy_and_places_come_back() {
    let mut limits = SecurityLimits::default();
    limits.max_connections_per_source = 3;
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    for _round in 0..20 {
        let mut tabs = Vec::new();
        for _ in 0..3 {
            tabs.push(Tab::opened(server.address, "home").await.0);
        }
        let mut fourth = Tab::connect(server.address, "/field/home/ws").await;
        assert_eq!(fourth.closed().await, Some((BUSY, "server busy".to_owned())));
        for mut tab in tabs {
            tab.socket.close(None).await.unwrap();
            // The end of the stream: the place was given back before.
            while tab.socket_alive().await {}
        }
    }
    assert_eq!(server.line().await["refused"]["connections_per_source"], 20);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_its_frame_byte_by_byte_holds_nobody_up_and_is_given_up() {
    let time = StoppedTime::new();
    let mut limits = SecurityLimits::default();
    limits.ping_interval = Duration::from_millis(100);
    limits.max_silence = Duration::from_secs(2);
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    let mut loris = TcpStream::connect(server.address).await.unwrap();
    loris.write_all(UPGRADE.as_bytes()).await.unwrap();
    let dripping = tokio::spawn(async move {
        // A masked text frame of 125 bytes, of which a byte comes every 500 ms.
        let mut frame = vec![0x81, 0x80 | 125, 0, 0, 0, 0];
        frame.extend([b'x'; 125]);
        let (mut read, mut write) = loris.into_split();
        let ended = async {
            let mut bytes = [0; 4096];
            while read.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        };
        let drip = async {
            for byte in frame {
                if write.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! { () = ended => true, () = drip => false }
    });
    let (mut good, _) = Tab::opened(server.address, "home").await;
    good.send(&json!({ "type": "set", "key": "k", "value": 1 })).await;
    assert_eq!(good.json().await["key"], "k");
    // It hears nothing but the pings, which it answers, and stays.
    while !dripping.is_finished() {
        time.tenth_passes().await;
        let heard = good.socket.next().await;
        assert!(matches!(heard, Some(Ok(Message::Ping(_)))), "{heard:?}");
    }
    assert!(dripping.await.unwrap(), "the gateway ends the connection before the frame is complete");
    drop(time);
    server.stop().await;
}

impl Tab {
    /// Reads, so that pings are answered.
    async fn socket_alive(&mut self) -> bool {
        matches!(self.socket.next().await, Some(Ok(_)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_11_a_client_that_does_not_read_slows_nobody_and_costs_bounded_memory() {
    let mut limits = SecurityLimits::default();
    limits.max_queue_bytes = 256 << 10;
    // Those that do not read stay until the end, however long it takes to get there.
    limits.max_stall = 100 * PATIENCE;
    limits.max_silence = 300 * PATIENCE;
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    server.field.set("before", &1).unwrap();
    let (stuck, _) = Tab::opened(server.address, "home").await;
    let mut slow = Client::following(server.address, "home", "slow").await;
    let mut reader = Client::following(server.address, "home", "reader").await;
    let value = "x".repeat(30_000);
    let mut latencies = Vec::new();
    // 21 MB to each: more than the buffers of the system.
    for number in 0..700 {
        let (key, started) = (format!("k{}", number % 100), Instant::now());
        let expected = json!([number, value]);
        server.field.set(&key, &expected).unwrap();
        reader.until(|client| client.value(&key) == Some(&expected)).await;
        latencies.push(started.elapsed());
    }
    latencies.sort();
    let (typical, p99) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
    println!("seen after {typical:?}, 99 % of them within {p99:?}");
    let line = server.line().await;
    assert!(line["queued_changes"].as_u64().unwrap() <= 2 * 100, "{line}");
    assert!(line["resynced_clients"].as_u64().unwrap() >= 1, "{line}");
    // The acceptance case demands 50 ms for 99 % of them, which the benchmark measures. Here other tests run beside it:
    // the slowest ones include moments in which the machine does something else, the typical one does not. A server that
    // waits for one that does not read would wait for ever.
    assert!(typical < Duration::from_secs(5), "{typical:?}");

    // One that reads again has the newest state in the end.
    let newest = json!(["newest"]);
    server.field.set("k0", &newest).unwrap();
    server.field.remove("before").unwrap();
    slow.until(|client| client.value("k0") == Some(&newest)).await;
    for number in 1..100 {
        let key = format!("k{number}");
        let value = server.field.get(&key).unwrap();
        slow.until(|client| client.value(&key) == value.as_ref()).await;
    }
    slow.until(|client| client.value("before").is_none()).await;
    assert!(slow.snapshots > 1, "it got a new snapshot");
    drop(stuck);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_11_a_client_that_never_reads_is_given_up() {
    let mut limits = SecurityLimits::default();
    limits.max_stall = Duration::from_millis(500);
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    let (_stuck, _) = Tab::opened(server.address, "home").await;
    let given_up = async {
        let mut number = 0;
        // More than the buffers of the system take: the gateway cannot write, and nothing else tells when it gives up.
        while server.line().await["dropped_clients"]["stalled"] == 0 {
            for _ in 0..50 {
                number += 1;
                server
                    .field
                    .set(&format!("k{}", number % 100), &json!([number, "x".repeat(30_000)]))
                    .unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, given_up).await.expect("it is given up");
    // It is counted a moment before it is gone.
    let gone = async { while server.line().await["clients"] != 0 {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("its place is given back");
    server.stop().await;
}

/// Clients of protocol 0.4 get the whole field in one message.
#[tokio::test]
async fn of_those_that_do_not_read_their_snapshot_few_are_in_memory_and_each_is_given_up_without_progress() {
    let time = StoppedTime::new();
    let mut limits = SecurityLimits::default();
    limits.max_stall = Duration::from_millis(500);
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    // More than the buffers of the system take, and less than a frame of this client.
    for number in 0..520 {
        server.field.set(&format!("k{number}"), &"x".repeat(30_000)).unwrap();
    }
    let mut stuck = Vec::new();
    for _ in 0..10 {
        stuck.push(Tab::connect(server.address, "/field/home/ws").await);
    }
    // One that reads comes after all of them, and gets it when there is room for it in memory. No time passes while it
    // reads.
    let mut good = Tab::connect(server.address, "/field/home/ws").await;
    assert_eq!(good.json().await["type"], "hello");
    let mut tenths = 0;
    while server.line().await["dropped_clients"]["stalled"].as_u64().unwrap() < 7 {
        assert!(tenths < 200, "they are not given up");
        time.tenth_passes().await;
        tenths += 1;
    }
    let snapshot = good.next("snapshot").await;
    assert_eq!(snapshot["data"].as_object().unwrap().len(), 520);
    drop(stuck);
    drop(time);
    server.stop().await;
}

#[tokio::test]
async fn a_count_that_falls_is_refused() {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    let mut a = Client::connect(server.address, "home", "a").await;
    let count =
        |op: u64, up: u64| json!({ "type": "count", "op": op, "at": now(), "key": "visits", "up": up });
    a.write(&count(1, 5)).await;
    a.tab.send(&count(2, 4)).await;
    a.until(|client| client.refused.contains_key(&2)).await;
    assert_eq!((server.field.count("visits"), &a.refused[&2]["code"]), (5, &json!("field")));
    server.stop().await;
}
