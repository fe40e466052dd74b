//! A process whose runtime does nothing for a while, because a handler blocks its only thread.

use std::sync::mpsc;

use super::*;

/// How soon one that is silent has gone.
const GONE_AFTER: Duration = Duration::from_millis(1500);

/// A process on a thread of its own, which blocks on an order, until the order to go on.
struct Blocking {
    orders: mpsc::Sender<()>,
    go_on: mpsc::Sender<()>,
    /// Tells that it blocks now.
    blocks: mpsc::Receiver<()>,
    /// Its report when it goes on: how long each peer has been there.
    peers: mpsc::Receiver<Vec<Duration>>,
}

impl Blocking {
    fn start(port: u16, others: &[u16]) -> Self {
        let ((orders, ordered), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
        let ((begin, blocks), (tell, peers)) = (mpsc::channel(), mpsc::channel());
        let (url, others) = (address(port, others), others.len());
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let view = LanView::default();
                let options = LanOptions::default().secret(SECRET).gone_after(GONE_AFTER).view(&view);
                let aether = aether::builder().url(url).options(options).connect().await.unwrap();
                met(&aether, &view, others).await;
                let ear = vibrator("ear", &aether).await;
                ear.resonate_on("said.*").await.unwrap();
                ready.send(()).unwrap();
                let (pass_on, mut passed_on) = tokio::sync::mpsc::unbounded_channel();
                std::thread::spawn(move || while ordered.recv().is_ok() && pass_on.send(()).is_ok() {});
                while passed_on.recv().await.is_some() {
                    begin.send(()).unwrap();
                    // This is what a handler must not do. Ends with an error if the test is over.
                    let _ = may_go_on.recv();
                    // Everything that arrived meanwhile has its turn, and so has the heartbeat.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    // Fails if the test is over.
                    let _ = tell.send(view.peers().iter().map(|peer| peer.since).collect());
                }
                aether.close().await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { orders, go_on, blocks, peers }
    }

    /// Returns once it blocks.
    fn block(&self) {
        self.orders.send(()).unwrap();
        self.blocks.recv_timeout(LONG).unwrap();
    }

    fn go_on(&self) {
        self.go_on.send(()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_has_gone_for_others_and_is_back_when_it_goes_on() {
    let ports = [free_port(), free_port()];
    let view = LanView::default();
    let options = LanOptions::default().secret(SECRET).gone_after(GONE_AFTER).view(&view);
    let here = aether::builder().url(address(ports[0], &[])).options(options).connect().await.unwrap();
    let other = tokio::task::spawn_blocking(move || Blocking::start(ports[1], &ports[..1])).await.unwrap();
    until(&view, LONG, |view| view.peers().len() == 1).await;
    let began = std::time::Instant::now();
    other.block();
    // It beats on a thread of its own, and yet does not know of this. The join would fail after 10 s if it did not end
    // with the peer.
    let ear = vibrator("ear", &here).await;
    ear.resonate_on("other.*").await.unwrap();
    println!("a join waited {:?} for a process that hangs", began.elapsed());
    assert!(view.peers().is_empty() && began.elapsed() >= GONE_AFTER / 2, "{view:?}");
    other.go_on();
    until(&view, LONG, |view| !view.peers().is_empty()).await;
    let emitter = here.emitter("emitter").unwrap();
    emitter.emit_bytes("said.this", "it is back").await.unwrap();
    flushed(&here).await;
    drop(other);
    here.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_blocked_forgets_none_of_those_that_spoke_meanwhile() {
    // So that the others would have gone.
    const BLOCKED: Duration = GONE_AFTER.saturating_add(Duration::from_millis(700));
    let ports = [free_port(), free_port(), free_port()];
    let first = peer(ports[0], &[], SECRET).await;
    let second = peer(ports[1], &ports[..1], SECRET).await;
    let other = tokio::task::spawn_blocking(move || Blocking::start(ports[2], &ports[..2])).await.unwrap();
    other.block();
    tokio::time::sleep(BLOCKED).await;
    other.go_on();
    let (other, since) = tokio::task::spawn_blocking(move || {
        let since = other.peers.recv_timeout(LONG).unwrap();
        (other, since)
    })
    .await
    .unwrap();
    assert!(since.len() == 2 && since.iter().all(|since| *since > BLOCKED), "{since:?}");
    drop(other);
    for aether in [first, second] {
        aether.close().await.unwrap();
    }
}

/// The heartbeats of the others are no progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_a_process_does_not_answer_gives_up_after_two_seconds_whatever_others_do() {
    let ports = [free_port(), free_port(), free_port()];
    // Its own account would be something that moves.
    let options = patient().secret(SECRET);
    let builder = aether::builder().url(address(ports[0], &[])).options(options).account_every(None);
    let here = builder.connect().await.unwrap();
    let well = peer(ports[1], &ports[..1], SECRET).await;
    let other = tokio::task::spawn_blocking(move || Blocking::start(ports[2], &ports[..2])).await.unwrap();
    other.block();
    let emitter = here.emitter("emitter").unwrap();
    emitter.emit_bytes("said.this", "nobody listens").await.unwrap();
    let began = std::time::Instant::now();
    let flushed = here.flush().await;
    println!("a flush ended after {:?}: {flushed:?}", began.elapsed());
    // The exceeded limit is the one without progress, and not the longer one of all flushes.
    match flushed {
        Err(FlushError::Unconfirmed { waves: 1, patience }) => assert_eq!(patience, Duration::from_secs(2)),
        other => panic!("{other:?}"),
    }
    drop(other);
    for aether in [here, well] {
        // Pings that the other one did not answer may still be open.
        let _ = aether.close().await;
    }
}
