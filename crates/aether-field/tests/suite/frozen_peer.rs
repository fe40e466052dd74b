//! A replica in another process that is frozen and goes on: it leaves once, joins once, and has the present state.

use std::time::{Duration, Instant};

use crate::replica::median;
use aether_conformance::NatsServer;
use aether_core::Vibrator;
use aether_field::{Field, Identity, PeerEvent, PeerEvents, Trust};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

/// The longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long a peer may be silent in this test: longer than a busy machine keeps a process waiting.
const SILENCE: Duration = Duration::from_secs(10);

const CHILD: &str = "AETHER_FIELD_FROZEN_CHILD";

/// The process that is frozen: repeats as its own what it reads.
async fn repeat(server: &str, identity: &str) {
    let aether = aether::connect(server).await.unwrap();
    let builder = Field::builder("home").replica("pi").identity(Identity::load(identity).unwrap());
    let field = builder.join(&aether).await.unwrap();
    let own = field.own().unwrap();
    let mut updates = field.watch("n");
    loop {
        if let Some(n) = field.get::<u64>("n").unwrap() {
            own.set("seen", &n).unwrap();
        }
        updates.next().await.unwrap();
    }
}

async fn next(events: &mut PeerEvents) -> PeerEvent {
    timeout(PATIENCE, events.next()).await.expect("an event comes").unwrap()
}

/// Waits until the other process has repeated this.
async fn repeated(field: &Field, n: u64) {
    let mut updates = field.of("pi-2").watch("seen");
    let seen = async {
        while field.of("pi-2").get::<u64>("seen").unwrap() != Some(n) {
            updates.next().await.unwrap();
        }
    };
    timeout(PATIENCE, seen).await.expect("the other process repeats");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_8_a_frozen_peer_leaves_once_and_joins_once() {
    // The test runs itself as the process that is frozen.
    if let Ok(child) = std::env::var(CHILD) {
        let (server, identity) = child.split_once(' ').unwrap();
        return repeat(server, identity).await;
    }
    let server = NatsServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pi-2.identity");
    let pi = Identity::generate("pi-2").unwrap();
    pi.save(&path).unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let trust = Trust::allow_list([("pi-2", pi.public_key())]);
    let builder = Field::builder("home").replica("hall").trust(trust).silence(SILENCE);
    let field = builder.join(&aether).await.unwrap();
    let mut events = field.peer_events();
    field.set("n", &1).unwrap();

    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "frozen_peer::c3_8_a_frozen_peer_leaves_once_and_joins_once", "--nocapture"])
        .env(CHILD, format!("{} {}", server.url(), path.display()))
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let process = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    let is_pi = |event: &PeerEvent| match event {
        PeerEvent::Joined(peer) | PeerEvent::Left(peer) => {
            (peer.replica.as_str(), peer.owner.as_deref()) == ("pi", Some("pi-2"))
        }
        _ => false,
    };
    let joined = next(&mut events).await;
    assert!(matches!(joined, PeerEvent::Joined(_)) && is_pi(&joined), "{joined:?}");
    repeated(&field, 1).await;

    kill(process, Signal::SIGSTOP).unwrap();
    // A write never waits for it.
    let write = |_| {
        let begin = Instant::now();
        field.set("n", &2).unwrap();
        begin.elapsed()
    };
    let typical = median((0..9).map(write).collect());
    // A wait would take as long as a question, half a second at least.
    assert!(typical < Duration::from_millis(100), "{typical:?}");
    let left = next(&mut events).await;
    assert!(matches!(left, PeerEvent::Left(_)) && is_pi(&left), "{left:?}");
    assert_eq!(field.peers(), []);
    field.set("n", &3).unwrap();

    // The beats of both replicas, about one a second, are the clock: a machine that does not run one of them stops it.
    let mut beats = Vibrator::create("clock", &aether).await.unwrap();
    beats.resonate_on("field.home.beats").await.unwrap();
    kill(process, Signal::SIGCONT).unwrap();
    let (mut of_hall, mut of_pi, mut caught_up) = (0, 0, std::pin::pin!(repeated(&field, 3)));
    loop {
        tokio::select! {
            () = &mut caught_up => break,
            beat = beats.receive() => match beat.unwrap().source().name() {
                "hall" => of_hall += 1,
                "pi" => of_pi += 1,
                _ => {}
            },
        }
    }
    let passed = of_hall.min(of_pi);
    assert!(passed <= 5, "it has the present state after {passed} beats");
    let joined = next(&mut events).await;
    assert!(matches!(joined, PeerEvent::Joined(_)) && is_pi(&joined), "{joined:?}");

    // Nothing else happened until it ended.
    child.kill().await.unwrap();
    let left = next(&mut events).await;
    assert!(matches!(left, PeerEvent::Left(_)) && is_pi(&left), "{left:?}");
}
