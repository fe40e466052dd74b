//! A flood of hostile messages of all kinds, on all subjects: nothing is delivered, nothing panics, the memory stays as
//! it is.

use std::time::Instant;

use aether_core::{Kind, Vibrator, Wave};
use futures::FutureExt as _;

use crate::attacks::attacker::BATCH;
use crate::attacks::process::Attacker;
use crate::attacks::victims::{PATIENCE, Victims, resident_bytes, within};
use crate::settling::flushed;

/// The number of hostile messages; set `AETHER_HOSTILE_FRAMES=10000000` for the long run.
fn messages() -> u64 {
    std::env::var("AETHER_HOSTILE_FRAMES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// One of each kind of message: waves, a command, a question with its answer and the copies of both, announcements.
async fn speak(victims: &Victims, ear: &mut Vibrator) {
    for text in ["one", "two"] {
        victims.shop.emit_bytes("shop.load", text).await.unwrap();
        victims.shop.emit(Wave::builder("shop.work").kind(Kind::Command).text(text)).await.unwrap();
        for _ in 0..2 {
            within("a real wave", ear.receive()).await.unwrap();
        }
        let asked =
            victims.shop.ask_within(Wave::builder("shop.price").text(text).build().unwrap(), PATIENCE);
        let answering =
            async { within("the question", ear.receive()).await.unwrap().reply_bytes("1").await.unwrap() };
        tokio::join!(async { asked.await.unwrap() }, answering);
    }
    flushed(&victims.here).await;
    flushed(&victims.there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_hostile_messages_on_all_subjects_delivers_nothing_and_fills_nothing() {
    /// The memory that the allocator, the client's buffers and the tasks may take meanwhile.
    const SLACK: u64 = 48 << 20;
    let mut victims = Victims::new(true).await;
    let mut attacker = Attacker::new("flood", &victims.server, messages()).await;
    let mut ear = victims.ear.take().unwrap();
    let mut observer = Vibrator::builder("observer").observe().create(&victims.there).await.unwrap();
    observer.resonate_on("shop.*").await.unwrap();
    let (roster, mut echoes) = (victims.here.roster().await.unwrap(), victims.shop.echoes().await.unwrap());
    speak(&victims, &mut ear).await;
    // Copies for observers travel apart from the waves.
    victims.shop.emit_bytes("shop.mark", "").await.unwrap();
    within("the first mark", ear.receive()).await.unwrap();
    while within("its copy", observer.receive()).await.unwrap().channel().as_str() != "shop.mark" {}
    let (mut sent, mut resident, mut batches, begun) = (0, None, 0, Instant::now());
    let observed = observer.ledger().offered;
    attacker.tell().await;
    while sent < messages() {
        sent = attacker.says("sent").await;
        // The receivers follow, so that the server does not cut them off, and nothing but this wave arrives.
        victims.shop.emit_bytes("shop.mark", "").await.unwrap();
        let wave = within("the next wave", ear.receive()).await.unwrap();
        assert_eq!(wave.channel().as_str(), "shop.mark", "{wave:?}");
        batches += 1;
        if sent >= 10 * BATCH {
            resident.get_or_insert_with(resident_bytes);
        }
        attacker.tell().await;
    }
    flushed(&victims.here).await;
    flushed(&victims.there).await;
    let (here, there) = (victims.here.status(), victims.there.status());
    let (before, after) = (resident.unwrap_or_default(), resident_bytes());
    println!(
        "{sent} hostile messages in {:?}: refused {:?} and {:?}; memory {} MiB before and {} MiB after",
        begun.elapsed(),
        here.refusals(),
        there.refusals(),
        before >> 20,
        after >> 20
    );
    assert!(after <= before + SLACK, "{before} bytes grew to {after}");
    for (status, kinds) in [(here, 3), (there, 4)] {
        // A message that only `here` hears, such as an answer, is never replayed to anybody who waits for it.
        let refused = [
            status.refused_plain,
            status.refused_unknown_key,
            status.refused_tampered,
            status.refused_replayed,
        ];
        assert!(refused[..kinds].iter().all(|messages| *messages > sent / 200), "{refused:?}");
        let others = (status.malformed, status.lost_upstream, status.pauses, status.unconfirmed);
        assert_eq!(others, (0, 0, 0, 0), "{status:?}");
    }
    assert_eq!((ear.ledger().queued, ear.ledger().lost()), (0, 0), "{:?}", ear.ledger());
    while observer.ledger().offered - observed < batches {
        within("the last copy", observer.receive()).await.unwrap();
    }
    assert_eq!(observer.ledger().offered - observed, batches, "the observer sees the marks alone");
    assert!(echoes.receive().now_or_never().is_none() && victims.here.echo_ledger().reflected == 0);
    assert_eq!((roster.implausible(), victims.here.echo_ledger().refused), (0, 0));
}
