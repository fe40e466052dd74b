//! C1 11 with many clients, of which one in ten does not read.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use aether_core::Aether;
use aether_gateway::{FieldOptions, SecurityLimits};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::field::client::{Client, PATIENCE};
use crate::field::server::Server;

/// Each reader wants the writes of one of these.
const ROOMS: usize = 100;
/// One write to each room in each round: 2 MB to each client that does not read, whose buffers hold a tenth of that.
const ROUNDS: usize = 20;
/// The goal is 50 ms at 1,000 writes a second, which the benchmark measures. A build without optimisation that shares its
/// machine with other tests gets more, and the slowest ones are those in which the machine did something else; a server that
/// waits for one of the silent clients would wait for ever.
const TYPICAL: Duration = Duration::from_secs(5);

/// A client that wants everything and reads nothing, with little room in the buffers of the system.
async fn silent(server: &Server) -> impl Sized + use<> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let mut request = format!("ws://{}/field/home/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "aether.field.v1".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let id = format!("silent-{:?}", socket.get_ref().local_addr().unwrap());
    for message in
        [json!({ "type": "hello", "client": id }), json!({ "type": "subscribe", "patterns": ["*"] })]
    {
        socket.send(Message::text(message.to_string())).await.unwrap();
    }
    // It has its snapshot: what is not read is what comes later.
    while !socket.next().await.unwrap().unwrap().to_text().unwrap().contains("\"done\":true") {}
    socket
}

/// One client in ten does not read.
async fn one_in_ten_does_not_read(clients: usize) {
    let silent_clients = clients / 10;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let mut limits = SecurityLimits::default();
    limits.max_connections_total = clients;
    limits.max_connections_per_source = clients;
    limits.max_queue_bytes = 64 << 10;
    // The silent ones are there until the end, however long it takes to get there.
    limits.max_stall = 100 * PATIENCE;
    limits.max_silence = 300 * PATIENCE;
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    let mut stuck = Vec::new();
    for _ in 0..silent_clients {
        stuck.push(silent(&server).await);
    }
    let (saw, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let mut readers = JoinSet::new();
    for at in 0..clients - silent_clients {
        let mut client = Client::connect(server.address, "home", &format!("reader-{at}")).await;
        client.subscribe(json!([format!("room/{}/*", at % ROOMS)])).await;
        let saw = saw.clone();
        readers.spawn(async move {
            for round in 0..ROUNDS {
                let key = format!("room/{}/{round}", at % ROOMS);
                client.until(|client| client.value(&key).is_some()).await;
                saw.send((round, Instant::now())).unwrap();
            }
        });
    }
    assert_eq!(server.line().await["clients"], clients);
    let padding = "x".repeat(1000);
    let mut ages = Vec::new();
    for round in 0..ROUNDS {
        let begin = Instant::now();
        for room in 0..ROOMS {
            server.field.set(&format!("room/{room}/{round}"), &padding).unwrap();
        }
        for _ in 0..clients - silent_clients {
            let next = tokio::time::timeout(PATIENCE, seen.recv()).await.expect("every reader sees it");
            let (of_round, when) = next.unwrap();
            assert_eq!(of_round, round);
            ages.push(when - begin);
        }
    }
    readers.join_all().await;
    ages.sort();
    let p99 = ages[ages.len() * 99 / 100];
    let typical = ages[ages.len() / 2];
    println!("{} changes seen, p50 {typical:?}, p99 {p99:?}", ages.len());
    assert!(typical < TYPICAL, "{typical:?}");
    // Those that do not read filled their queues, and cost no more than these.
    let line = server.line().await;
    assert!(line["resynced_clients"].as_u64().unwrap() >= silent_clients as u64, "{line}");
    assert!(line["queued_changes"].as_u64().unwrap() < (silent_clients * 64) as u64, "{line}");
    drop(stuck);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_11_of_200_clients_20_do_not_read_and_the_others_notice_nothing() {
    one_in_ten_does_not_read(200).await;
}

mod long {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn case_11_of_1000_clients_100_do_not_read_and_the_others_notice_nothing() {
        super::one_in_ten_does_not_read(1000).await;
    }
}
