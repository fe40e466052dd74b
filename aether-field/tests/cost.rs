//! What changes cost on the network, counted in the bytes of each connection to a real server.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod replica;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::Aether;
use aether_core::conformance::NatsServer;
use aether_field::Field;
use replica::{equal, join, shows, within};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A replica whose connection is counted.
struct Counted {
    field: Field,
    bytes: Arc<AtomicU64>,
}

async fn counted(port: u16, replica: &str) -> Counted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let bytes = Arc::new(AtomicU64::new(0));
    tokio::spawn({
        let bytes = Arc::clone(&bytes);
        async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(copy(from_client, to_server, Arc::clone(&bytes)));
                tokio::spawn(copy(from_server, to_client, Arc::clone(&bytes)));
            }
        }
    });
    Counted { field: join(&Aether::connect(&url).await.unwrap(), replica).await, bytes }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, bytes: Arc<AtomicU64>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// C3 10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_changed_key_of_two_thousand_costs_less_than_a_kibibyte_to_each_peer() {
    let server = NatsServer::start().await.unwrap();
    let mut all = Vec::new();
    for at in 0..3 {
        all.push(counted(server.port(), &format!("replica-{at}")).await);
    }
    let writer = &all[0].field;
    for n in 0..2000 {
        writer.set(&format!("key/{n}"), &format!("{n:0>90}")).unwrap();
    }
    within("agreement", writer.agreed(2)).await.unwrap();
    for peer in &all[1..] {
        equal(&peer.field, writer).await;
    }
    let mut costs = Vec::new();
    for round in 0..5 {
        let before: Vec<_> = all.iter().map(|one| one.bytes.load(Ordering::Relaxed)).collect();
        writer.set("key/1000", &round.to_string()).unwrap();
        within("agreement", writer.agreed(2)).await.unwrap();
        for peer in &all[1..] {
            shows(&peer.field, "key/1000", Some(&round.to_string())).await;
        }
        let after: Vec<_> = all.iter().map(|one| one.bytes.load(Ordering::Relaxed)).collect();
        costs.push(after.iter().zip(before).map(|(after, before)| after - before).collect::<Vec<_>>());
    }
    println!("bytes of each round, of the writer and of two peers: {costs:?}");
    // Heartbeats of the bus and beats of the field fall into some rounds, and not into all of them.
    let cheapest = costs.iter().map(|round| round[1..].iter().max().copied().unwrap_or(0)).min();
    assert!(cheapest < Some(1024), "{costs:?}");
}
