//! What is lost between two ends of a NATS server is counted to the wave, whatever happens to the server.

use std::time::Duration;

use aether_core::conformance::NatsServer;
use aether_core::{Aether, InboxOptions, Ledger, Vibrator, Wave, Wire};
use futures::StreamExt;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

fn event(number: u64) -> Wave {
    Wave::builder("gaps.events").never_decays().text(number.to_string()).build().unwrap()
}

async fn ear(name: &str, aether: &Aether, pattern: &str) -> Vibrator {
    let ear = Vibrator::builder(name).inbox(InboxOptions::interactive().max_waves(1 << 20)).create(aether);
    let ear = ear.await.unwrap();
    ear.resonate_on(pattern).await.unwrap();
    ear
}

/// Receives until a vibrator has got or missed so many waves; its account then.
async fn settled(ear: &mut Vibrator, due: u64) -> Ledger {
    let all = async {
        // Announcements are no waves: a loss at the end shows in the account only, which is looked at when time passes.
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while ear.ledger().offered < due || ear.ledger().queued > 0 {
            tokio::select! {
                biased;
                wave = ear.next() => assert!(wave.is_some()),
                _ = look.tick() => {}
            }
        }
    };
    let done = timeout(PATIENCE, all).await;
    let ledger = ear.ledger();
    assert!(done.is_ok(), "{due} waves were due: {ledger:?}");
    assert!(ledger.adds_up(), "{ledger:?}");
    ledger
}

async fn killed_in_the_middle(wire: Wire) {
    let mut server = NatsServer::start().await.unwrap();
    let connect = || Aether::builder().url(server.url()).wire(wire).connect();
    let (here, there) = (connect().await.unwrap(), connect().await.unwrap());
    let mut ear = ear("ear", &there, "gaps.>").await;
    let emitter = Vibrator::create("emitter", &here).await.unwrap().emitter();
    let emitting = tokio::spawn(async move {
        for number in 0..200_000 {
            emitter.emit(event(number)).await.unwrap();
        }
    });
    for _ in 0..3 {
        // The server dies with what it holds for either side, while waves are on their way.
        for _ in 0..5_000 {
            timeout(PATIENCE, ear.next()).await.unwrap().unwrap();
        }
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    }
    emitting.await.unwrap();
    // Until both are connected, so that what is emitted now arrives: otherwise a loss at the end could go unnoticed.
    let emitter = Vibrator::create("emitter", &here).await.unwrap();
    let mut last = 200_000;
    while timeout(Duration::from_secs(1), here.flush()).await.is_err() {}
    emitter.emit(event(last)).await.unwrap();
    last += 1;
    here.flush().await.unwrap();
    let ledger = settled(&mut ear, last).await;
    let (sent, status) = (here.status(), there.status());
    assert_eq!(sent.outbox.offered, last);
    assert!(sent.outbox.adds_up(), "{sent:?}");
    assert_eq!(ledger.offered, sent.outbox.delivered, "{ledger:?} {sent:?}");
    assert_eq!(ledger.lost_upstream, status.lost_upstream);
    assert_eq!(ledger.offered, ledger.delivered + ledger.lost_upstream);
    println!("lost {} of {last}, unconfirmed {}", ledger.lost_upstream, sent.unconfirmed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_wave_is_accounted_for_when_the_server_is_killed() {
    killed_in_the_middle(Wire::Frames).await;
}
