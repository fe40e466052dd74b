//! A slow way between two peers: a relay that holds back each byte.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aether_core::{Vibrator, Wave};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::lan::{LONG, SECRET, free_port, peer, vibrator};
use crate::settling::flushed;

const DELAY: Duration = Duration::from_millis(50);
/// What is under way at most in each direction, in pieces of up to 64 KiB.
const PIECES: usize = 256;
const WAVES: u64 = 20_000;

/// Passes on what comes, [`DELAY`] later.
async fn relay(listener: TcpListener, to: SocketAddr) {
    while let Ok((here, _)) = listener.accept().await {
        let Ok(there) = TcpStream::connect(to).await else { continue };
        let _ = (here.set_nodelay(true), there.set_nodelay(true));
        let ((from_here, to_here), (from_there, to_there)) = (here.into_split(), there.into_split());
        tokio::spawn(pass_on(from_here, to_there));
        tokio::spawn(pass_on(from_there, to_here));
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (sender, mut pieces) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(PIECES);
    tokio::spawn(async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if sender.send((tokio::time::Instant::now() + DELAY, buffer[..read].to_vec())).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_way_of_50_ms_nothing_is_lost_repeated_or_out_of_order() {
    let port = free_port();
    let there = peer(port, &[], SECRET).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let by_relay = listener.local_addr().unwrap().port();
    let relaying = tokio::spawn(relay(listener, ([127, 0, 0, 1], port).into()));
    let here = peer(free_port(), &[by_relay], SECRET).await;
    let mut ear = vibrator("ear", &there).await;
    ear.resonate_on("tick.*").await.unwrap();
    let mut oracle = vibrator("oracle", &there).await;
    oracle.resonate_on("ask").await.unwrap();

    let asker = here.emitter("asker").unwrap();
    let asked = Instant::now();
    let (answer, ()) =
        tokio::join!(asker.ask_within(Wave::builder("ask").text("?").build().unwrap(), LONG), async {
            oracle.receive().await.unwrap().reply(&7).await.unwrap();
        });
    assert_eq!(answer.unwrap().json::<u8>().unwrap(), 7);
    assert!(asked.elapsed() >= 2 * DELAY, "{:?}: it does not go through the relay", asked.elapsed());

    let emitters = ["first", "second"].map(|name| here.emitter(name).unwrap());
    let sending = tokio::spawn(async move {
        for number in 0..WAVES {
            let channel = if number & 2 == 0 { "tick.one" } else { "tick.two" };
            let wave = Wave::builder(channel).text("a wave of some length").build().unwrap();
            emitters[(number & 1) as usize].emit(wave).await.unwrap();
        }
        flushed(&here).await;
        here
    });
    hear(&mut ear).await;
    let here = timeout(LONG, sending).await.unwrap().unwrap();
    let (ledger, outbox) = (ear.ledger(), here.status().outbox);
    assert!(ledger.adds_up() && outbox.adds_up(), "{ledger:?} {outbox:?}");
    assert_eq!((ledger.offered, ledger.lost_upstream, ear.try_receive().is_err()), (WAVES, 0, true));
    here.close().await.unwrap();
    there.close().await.unwrap();
    relaying.abort();
}

/// Receives all waves, each once and in the order of its source and channel.
async fn hear(ear: &mut Vibrator) {
    let mut last = std::collections::HashMap::new();
    for _ in 0..WAVES {
        let wave = timeout(LONG, ear.receive()).await.unwrap().unwrap();
        let before = last.insert((wave.source().to_string(), wave.channel().to_string()), wave.sequence());
        assert!(
            before.is_none_or(|before| before < wave.sequence()),
            "{before:?} before {}",
            wave.sequence()
        );
    }
}
