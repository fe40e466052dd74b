//! Silent and slow clients do not lock others out.

use std::net::SocketAddr;
use std::time::Duration;

use aether_core::Aether;
use aether_gateway::{Gateway, GatewayOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{self, Metrics, Running};

/// More connections than slots.
const MANY: usize = 400;
const PATHS: [&str; 6] = ["/livez", "/readyz", "/healthz", "/metrics", "/", "/status"];
/// If idle connections kept their slots until their time-out, each answer would take half a minute.
const ALL_ANSWERED_WITHIN: Duration = Duration::from_secs(180);
/// How long before its use a connection is opened.
const AHEAD: Duration = Duration::from_secs(8);
const ROUNDS: usize = 10;

async fn cut(running: &Running, reason: &str) -> f64 {
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    metrics.value("aether_http_connections_cut_total", &[("reason", reason)])
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_give_way_to_a_client_of_the_same_address() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default().physics(false)).await;
    let answers = async {
        for _ in 0..ROUNDS {
            let mut idle = Vec::new();
            for _ in 0..MANY {
                let mut stream = TcpStream::connect(running.address).await.unwrap();
                // The gateway may have closed it already.
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await;
                idle.push(stream);
            }
            for path in PATHS {
                assert_eq!(running.get(path).await.code, 200, "{path}");
            }
            // The oldest is closed, and the newest is still open.
            let _ = idle[0].read_to_end(&mut Vec::new()).await;
            drop(idle);
        }
    };
    timeout(ALL_ANSWERED_WITHIN, answers).await.expect("a good client was kept out");
    assert!(cut(&running, "idle").await > 0.0);
    running.stop().await;
}

/// With a full backlog the system drops the first packet of a client, which retries a second later.
#[cfg(target_os = "linux")] // where the program chooses the length of the queue, up to `somaxconn`
#[tokio::test]
async fn a_burst_of_connections_waits_in_a_queue_that_is_long_enough() {
    let aether = Aether::local();
    let options = GatewayOptions::default().listen(support::any_port());
    let gateway = Gateway::start(&aether, options).await.unwrap();
    let connected = async {
        let mut all = Vec::new();
        for _ in 0..MANY {
            all.push(TcpStream::connect(gateway.address()).await.unwrap());
        }
    };
    timeout(ALL_ANSWERED_WITHIN, connected).await.expect("nobody accepts, so this would take minutes");
}

/// A client that reconnects whenever the gateway closes its connection.
async fn reconnects(gateway: SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(gateway).await else { continue };
        let _ = stream.write_all(b"GET /metrics HT").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// Asks from another loopback address than the others.
async fn ask_from_elsewhere(gateway: SocketAddr, path: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut stream = socket.connect(gateway).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {gateway}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// As a browser does that is busy with its own start.
#[tokio::test]
async fn a_connection_that_was_opened_ahead_is_answered_seconds_later() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default().physics(false)).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    tokio::time::sleep(AHEAD).await;
    stream
        .write_all(format!("GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n", running.address).as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    running.stop().await;
}

#[cfg(target_os = "linux")] // where every address of 127.0.0.0/8 is the machine itself
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_that_reconnect_do_not_lock_out_other_addresses() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default().physics(false)).await;
    let mut hostile = JoinSet::new();
    for _ in 0..MANY {
        hostile.spawn(reconnects(running.address));
    }
    let answers = async {
        for _ in 0..ROUNDS {
            for path in PATHS {
                let answer = ask_from_elsewhere(running.address, path).await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {answer}");
            }
        }
    };
    timeout(ALL_ANSWERED_WITHIN, answers).await.expect("a good client was kept out");
    hostile.shutdown().await;
    assert!(cut(&running, "idle").await > 0.0);
    running.stop().await;
}
