//! Certificates that are replaced while waves flow and connections come and go.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aether::nats::NatsOptions;
use aether::nats::{NatsError, TlsFailure};
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, ConnectError, InboxOptions, Vibrator, WhenFull};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::authority::Authority;
use super::{LONG, carries, connect};

use crate::settling::flushed;

/// A number from the environment: `AETHER_ROTATIONS=60 AETHER_ROTATION_RATE=50000` for the long run, in release.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A server with TLS whose configuration and certificates are files, so that it can read them again.
async fn server(authority: &Authority) -> NatsServer {
    let path = |file: &str| authority.path(file).display().to_string();
    let (bundle, ca) = (path("server-bundle.pem"), path("ca.pem"));
    let tls =
        format!("tls {{ cert_file: '{bundle}', key_file: '{bundle}', ca_file: '{ca}', verify: true }}\n");
    std::fs::write(authority.path("server.conf"), tls).unwrap();
    NatsServer::start_with(ServerOptions::default().arg("--config").arg(path("server.conf"))).await.unwrap()
}

fn reload(server: &NatsServer) {
    let pid = server.pid().expect("a running server").to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

fn options(authority: &Authority) -> NatsOptions {
    let bundle = authority.path("client-bundle.pem");
    let patient = InboxOptions::default().when_full(WhenFull::Wait { patience: LONG });
    authority.trusted().certificate(&bundle, &bundle).outbox(patient)
}

/// Emits waves at a rate, in hundredths of a second, until told to stop.
async fn emit(shop: Vibrator, rate: u64, is_over: &AtomicBool, emitted: &AtomicU64) {
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..rate / 100 {
            shop.emit_bytes("rotation.load", "x").await.unwrap();
        }
        emitted.fetch_add(rate / 100, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_replaced_each_second_under_load_refuse_no_connection_and_lose_nothing() {
    let (rotations, rate) = (number("AETHER_ROTATIONS", 4), number("AETHER_ROTATION_RATE", 5_000));
    let mut authority = Authority::new();
    let server = server(&authority).await;
    let here = connect(&server.url(), options(&authority)).await.unwrap();
    let there = connect(&server.url(), options(&authority)).await.unwrap();
    let inbox = InboxOptions::interactive().max_waves(1 << 20).max_bytes(1 << 30);
    let mut ear = Vibrator::builder("ear").inbox(inbox).create(&there).await.unwrap();
    ear.resonate_on("rotation.load").await.unwrap();
    let received = Arc::new(watch::Sender::new(0));
    let receiving = {
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            while ear.receive().await.is_some() {
                received.send_modify(|waves| *waves += 1)
            }
        })
    };
    let (is_over, emitted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let emitting = {
        let (is_over, emitted) = (Arc::clone(&is_over), Arc::clone(&emitted));
        let shop = Vibrator::create("shop", &here).await.unwrap();
        tokio::spawn(async move { emit(shop, rate, &is_over, &emitted).await })
    };
    let made = watch::Sender::new(0_u64);
    let mut connections = made.subscribe();
    let connecting = {
        let (is_over, url, options) = (Arc::clone(&is_over), server.url(), options(&authority));
        tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let aether = connect(&url, options.clone()).await.expect("no connection is refused");
                carries(&aether).await;
                aether.close().await.unwrap();
                made.send_modify(|connections| *connections += 1);
            }
        })
    };
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..rotations {
        seconds.tick().await;
        let before = *connections.borrow_and_update();
        authority.sign("server", |_| {});
        authority.sign("client", |_| {});
        reload(&server);
        // One after the other: the second one at least begins after the rotation.
        let made = timeout(LONG, connections.wait_for(|connections| *connections >= before + 2)).await;
        made.expect("connections are made").expect("no connection is refused");
    }
    is_over.store(true, Ordering::Relaxed);
    emitting.await.unwrap();
    connecting.await.unwrap();
    let connections = *connections.borrow();
    flushed(&here).await;
    let emitted = emitted.load(Ordering::Relaxed);
    let mut waves = received.subscribe();
    let all = timeout(LONG, waves.wait_for(|waves| *waves == emitted)).await.is_ok();
    assert!(all, "{} of {emitted} received", *received.borrow());
    receiving.abort();
    for aether in [&here, &there] {
        let status = aether.status();
        assert_eq!((status.lost_upstream, status.connects), (0, 1), "the connections have stood: {status:?}");
    }
    println!("{rotations} rotations, {emitted} waves, {connections} connections");
    takes_effect(&mut authority, &server).await;
}

/// The test would not notice otherwise that the server reads its certificates again.
async fn takes_effect(authority: &mut Authority, server: &NatsServer) {
    authority.replace();
    let url = server.url();
    let is_other = async || -> Result<Aether, ConnectError> { connect(&url, options(authority)).await };
    let before = is_other().await;
    assert!(
        matches!(
            before.as_ref().unwrap_err().of_medium(),
            Some(NatsError::Tls { failure: TlsFailure::UnknownIssuer, .. })
        ),
        "{before:?}"
    );
    reload(server);
    let reloaded = async {
        loop {
            match is_other().await {
                Ok(aether) => return aether,
                Err(error) if matches!(error.of_medium(), Some(NatsError::Tls { .. })) => {
                    tokio::task::yield_now().await
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    carries(&timeout(LONG, reloaded).await.expect("the server has read its certificates again")).await;
}
