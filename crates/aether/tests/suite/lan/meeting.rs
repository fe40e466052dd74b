//! Processes that come: each knows who is there before it sends anything, or reports that it does not.

use aether_core::FlushError;
use hkdf::Hkdf;
use sha2::Sha256;
use zenoh::Session;

use super::*;

const KEY: [u8; 32] = [7; 32];

fn keys() -> SealKeys {
    SealKeys::from_secret(KEY)
}

fn realm() -> String {
    keys().ids().next().unwrap().0.to_string()
}

/// The token of a node, made by hand.
pub(super) fn token(key: &[u8; 32], node: u64) -> String {
    let realm = SealKeys::from_secret(*key).ids().next().unwrap().0;
    let hkdf = Hkdf::<Sha256>::new(Some(b"aether-seal-1"), key);
    let mut proof = [0; 8];
    hkdf.expand_multi_info(&[b"node", &node.to_be_bytes()], &mut proof).unwrap();
    format!("aether/{realm}/{node:016x}{:016x}", u64::from_be_bytes(proof))
}

/// A session of Zenoh that listens on a port and connects to others.
async fn session(port: u16, others: &[u16]) -> Session {
    let mut config = zenoh::Config::default();
    let mut set = |key: &str, value: String| config.insert_json5(key, &value).unwrap();
    set("mode", "\"peer\"".to_owned());
    set("scouting/multicast/enabled", "false".to_owned());
    set("listen/endpoints", format!("[\"tcp/127.0.0.1:{port}\"]"));
    let others: Vec<_> = others.iter().map(|other| format!("\"tcp/127.0.0.1:{other}\"")).collect();
    set("connect/endpoints", format!("[{}]", others.join(",")));
    zenoh::open(config).await.unwrap()
}

async fn connect(port: u16, others: &[u16]) -> (Aether, LanView) {
    let view = LanView::default();
    let options = patient().keys(keys()).view(&view);
    (aether::builder().url(address(port, others)).options(options).connect().await.unwrap(), view)
}

fn said(text: &str) -> Wave {
    Wave::builder("said.here").text(text).build().unwrap()
}

/// It learns of one of them, which knows the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_wave_of_a_process_reaches_those_whom_its_peers_know() {
    let ports = [free_port(), free_port()];
    let (here, _) = connect(ports[0], &[]).await;
    let (there, view) = connect(ports[1], &ports[..1]).await;
    met(&there, &view, 1).await;
    let mut ears = [vibrator("ear", &here).await, vibrator("ear", &there).await];
    for ear in &mut ears {
        ear.resonate_on("said.*").await.unwrap();
    }
    for round in 0..10 {
        let text = round.to_string();
        let began = tokio::time::Instant::now();
        let (newcomer, view) = connect(free_port(), &ports[..1]).await;
        // Connecting waits for them, but no longer than 2 s.
        if began.elapsed() >= Duration::from_secs(2) {
            until(&view, LONG, |view| view.peers().len() >= 2).await;
        }
        let emitter = vibrator("newcomer", &newcomer).await;
        emitter.emit(said(&text)).await.unwrap();
        assert_eq!(view.peers().len(), 2, "round {round}");
        flushed(&newcomer).await;
        for ear in &mut ears {
            let heard = timeout(LONG, ear.receive()).await.unwrap().unwrap();
            assert_eq!(heard.text().unwrap(), text);
        }
        newcomer.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_a_stranger_invents_take_nothing_from_those_that_are_there() {
    let ports = [free_port(), free_port()];
    let (here, seen) = connect(ports[0], &[]).await;
    let stranger = session(ports[1], &ports[..1]).await;
    let mut tokens = Vec::new();
    for number in 0..1000_u64 {
        // As they would be without a proof, and with one that is guessed.
        let proof = if number % 2 == 0 { String::new() } else { format!("{:016x}", fastrand::u64(..)) };
        let token = format!("aether/{}/{:016x}{proof}", realm(), fastrand::u64(..));
        tokens.push(stranger.liveliness().declare_token(token).await.unwrap());
    }
    let mut ear = vibrator("ear", &here).await;
    ear.resonate_on("said.*").await.unwrap();
    let began = tokio::time::Instant::now();
    let (newcomer, view) = connect(free_port(), &ports).await;
    if began.elapsed() >= Duration::from_secs(2) {
        until(&view, LONG, |view| view.peers().len() == 1).await;
        until(&seen, LONG, |seen| seen.peers().len() == 1).await;
    }
    assert_eq!((view.peers().len(), seen.peers().len()), (1, 1));
    vibrator("newcomer", &newcomer).await.emit(said("at once")).await.unwrap();
    flushed(&newcomer).await;
    let heard = timeout(LONG, ear.receive()).await.unwrap().unwrap();
    assert_eq!(heard.text().unwrap(), "at once");
    assert_eq!(view.surroundings().await.unwrap().same_secret, 2, "invented nodes are not counted");
}

/// As one does whose clock is an hour off: it shows itself, and refuses every message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_that_is_there_may_have_missed_is_not_confirmed() {
    let ports = [free_port(), free_port()];
    let mute = session(ports[0], &[]).await;
    let shown = mute.liveliness().declare_token(token(&KEY, 0x1000)).await.unwrap();
    let (here, view) = connect(ports[1], &ports[..1]).await;
    vibrator("emitter", &here).await.emit(said("into the dark")).await.unwrap();
    let flushed = here.flush().await;
    assert!(
        matches!(flushed, Err(FlushError::Unmet { processes: 1 } | FlushError::Unconfirmed { waves: 1, .. })),
        "{flushed:?}"
    );
    assert_eq!((here.status().unconfirmed, view.peers().len()), (1, 0));
    shown.undeclare().await.unwrap();
    // Nobody is there any more who could have missed it.
    let flushing = async {
        while here.flush().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, flushing).await.unwrap();
    here.close().await.unwrap();
}
