//! Clients that read slowly, not at all, or cannot be read: who is given up, and who is not.

use std::time::Duration;

use aether_core::{Aether, InboxOptions, Vibrator, WhenFull};
use aether_gateway::{FieldOptions, GatewayOptions, SecurityLimits};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::api::{PATIENCE, heard, say, socket};
use crate::clients::upgraded;
use crate::log::entry;
use crate::support::{self, Running, StoppedTime};

fn limited(limit: impl FnOnce(&mut SecurityLimits)) -> GatewayOptions {
    let mut limits = SecurityLimits::default();
    limit(&mut limits);
    GatewayOptions::default().physics(false).fields(FieldOptions::default().limits(limits))
}

/// A connection with little room in the buffers of the system.
async fn narrow(running: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    socket.connect(running.address).await.unwrap()
}

async fn clients(running: &Running) -> Value {
    let status: Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
    status["clients"].clone()
}

#[tokio::test]
async fn a_client_whose_waves_wait_is_not_read_and_not_taken_for_silent() {
    let time = StoppedTime::new();
    let aether = Aether::local();
    let running = support::run(
        &aether,
        limited(|limits| {
            limits.ping_interval = Duration::from_millis(100);
            limits.max_silence = Duration::from_millis(1500);
        }),
    )
    .await;
    let full = InboxOptions::interactive().max_waves(1).when_full(WhenFull::Wait { patience: PATIENCE });
    let mut till = Vibrator::builder("till").inbox(full).create(&aether).await.unwrap();
    till.resonate_on("orders.created").await.unwrap();
    let mut client = socket(&running).await;
    // One is taken, and as many wait as may.
    for id in 0..17 {
        say(&mut client, json!({ "op": "emit", "id": id, "wave": { "channel": "orders.created" } })).await;
    }
    for _ in 0..16 {
        heard(&mut client, "waiting").await;
    }
    // Twice the silence. It reads, and so answers every ping, but nobody looks at the answers.
    for _ in 0..30 {
        time.tenth_passes().await;
        let heard = client.next().await;
        assert!(matches!(heard, Some(Ok(Message::Ping(_)))), "it was given up: {heard:?}");
    }
    for _ in 0..17 {
        till.receive().await.unwrap();
    }
    for _ in 0..16 {
        assert_eq!(heard(&mut client, "emitted").await["waited"], true);
    }
    assert_eq!(clients(&running).await["stalled_clients"], 0);
    drop(time);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_are_given_up_and_counted() {
    let aether = Aether::local();
    let running = support::run(
        &aether,
        limited(|limits| {
            limits.max_stall = Duration::from_millis(300);
            limits.max_queue_bytes = 256 << 10;
        }),
    )
    .await;
    let (mut socket, _) =
        client_async(format!("ws://{}/ws", running.address), narrow(&running).await).await.unwrap();
    let subscribe = json!({ "op": "subscribe", "id": 1, "filter": { "pattern": "flood" } }).to_string();
    futures_util::SinkExt::send(&mut socket, subscribe.into()).await.unwrap();
    while !socket.next().await.unwrap().unwrap().to_text().unwrap().contains("done") {}
    let mut stream = narrow(&running).await;
    let head = format!("GET /waves?pattern=flood HTTP/1.1\r\nhost: {}\r\n\r\n", running.address);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut stream = BufReader::with_capacity(256, stream);
    let mut line = String::new();
    while !line.starts_with(": waves follow") {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    assert_eq!(clients(&running).await["clients"], 2);

    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let text = "x".repeat(8000);
    let flooding = async {
        loop {
            for _ in 0..100 {
                shop.emit_wave("flood", &text).await.unwrap();
            }
            let line = clients(&running).await;
            // Their subscriptions end a moment after they are counted.
            if line["stalled_clients"] == 2 && line["clients"] == 0 && line["subscriptions"] == 0 {
                break;
            }
        }
    };
    timeout(PATIENCE, flooding).await.expect("both are given up");
    let stalled = entry(&running, "stalled", "stalled").await;
    assert_eq!((&stalled["count"], &stalled["severity"]), (&2.into(), &"warning".into()));
    // Their connections were closed: what had been sent is there, and then the end.
    let rest = async { while matches!(socket.next().await, Some(Ok(_))) {} };
    timeout(PATIENCE, rest).await.expect("the connection of the socket was closed");
    let rest = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    assert!(rest.is_ok(), "the connection of the stream was closed");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_says_how_many_waves_it_missed() {
    let aether = Aether::local();
    let running = support::run(
        &aether,
        limited(|limits| {
            limits.max_queue_bytes = 256 << 10;
            // However long the waves take.
            limits.max_stall = 100 * PATIENCE;
        }),
    )
    .await;
    let mut stream = narrow(&running).await;
    let head = format!("GET /waves?pattern=flood HTTP/1.1\r\nhost: {}\r\n\r\n", running.address);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    while !lines.next_line().await.unwrap().unwrap().starts_with(": waves follow") {}
    // More than the queue and the buffers of the connection take, while it does not read.
    let (waves, text) = (5000_u64, "x".repeat(4000));
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for _ in 0..waves {
        shop.emit_wave("flood", &text).await.unwrap();
    }
    let reading = async {
        let (mut read, mut missed, mut event) = (0, 0, String::new());
        while read + missed < waves {
            let line = lines.next_line().await.unwrap().expect("the stream goes on");
            if let Some(kind) = line.strip_prefix("event: ") {
                event = kind.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                match event.as_str() {
                    "wave" => read += u64::from(data["channel"] == "flood"),
                    "missed" => missed += data["waves"].as_u64().unwrap(),
                    other => panic!("{other}"),
                }
            }
        }
        (read, missed)
    };
    let (read, missed) = timeout(PATIENCE, reading).await.expect("each wave is read or counted");
    assert!(missed > 0 && read + missed == waves, "{read} + {missed}");
    assert_eq!(clients(&running).await["missed_waves"], missed);
    running.stop().await;
}

/// Sends the head of a text of 64 KiB, and then a byte of it every 10 ms. Returns the reading half.
async fn dribbling(running: &Running) -> (OwnedReadHalf, JoinHandle<()>) {
    let (reading, mut writing) = upgraded(running).await.into_split();
    let dribbling = tokio::spawn(async move {
        let head = b"\x81\xff\0\0\0\0\0\x01\0\0\0\0\0\0";
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        for byte in head.iter().chain(std::iter::repeat_n(&b'x', 1 << 16)) {
            tick.tick().await;
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    });
    (reading, dribbling)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_comes_byte_by_byte_delays_nobody() {
    // It lasts for ten minutes, and is not given up before: nobody who waited for it would be answered in time.
    let running = support::run(&Aether::local(), limited(|limits| limits.max_silence = 100 * PATIENCE)).await;
    let (_reading, dribbling) = dribbling(&running).await;
    for _ in 0..10 {
        heard(&mut socket(&running).await, "hello").await;
    }
    assert!(!dribbling.is_finished());
    dribbling.abort();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_comes_byte_by_byte_ends_with_the_silence() {
    let running = support::run(
        &Aether::local(),
        limited(|limits| {
            limits.ping_interval = Duration::from_millis(100);
            limits.max_silence = Duration::from_secs(1);
        }),
    )
    .await;
    let (mut reading, dribbling) = dribbling(&running).await;
    let ended = timeout(PATIENCE, reading.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "it was not given up");
    assert_eq!(clients(&running).await["stalled_clients"], 1);
    dribbling.abort();
    running.stop().await;
}
