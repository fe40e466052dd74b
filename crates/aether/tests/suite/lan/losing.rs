//! Waves that are lost on the way: they are known to be lost, and no flush claims otherwise.

use std::collections::HashSet;

use super::*;
use crate::proxy::Proxy;

/// Waves between two flushes.
const BATCH: u64 = 2000;
/// How often the connection is cut. Each time it is made again within a second or so, so that nobody has gone.
const CUTS: u64 = 5;

/// A connection that is made again at once carries answers to later pings, which mean nothing about what was on the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_is_cut_under_load_and_made_again_at_once_turns_no_lost_wave_into_a_confirmed_one()
{
    let (here_port, there_port) = (free_port(), free_port());
    let cable = Proxy::new(here_port).await.unwrap();
    let here = peer(here_port, &[], SECRET).await;
    let there = peer(there_port, &[cable.port()], SECRET).await;
    let mut ear = vibrator("ear", &there).await;
    ear.resonate_on("load").await.unwrap();
    let heard_so_far = tokio::sync::watch::Sender::new(0_u64);
    let mut progress = heard_so_far.subscribe();
    let receiving = tokio::spawn(async move {
        let mut heard = HashSet::new();
        while let Some(wave) = ear.receive().await {
            assert!(heard.insert(wave.json::<u64>().unwrap()), "heard twice");
            heard_so_far.send_replace(heard.len() as u64);
        }
        heard
    });
    let cutting = tokio::spawn({
        let here = here.clone();
        async move {
            let mut cuts = 0;
            // On a busy machine each of them may come when nothing is on the way.
            while cuts < CUTS || here.status().unconfirmed == 0 && cuts < 20 * CUTS {
                // In the middle of a batch.
                let enough = *progress.borrow() + 2 * BATCH + BATCH / 2;
                progress.wait_for(|heard| *heard >= enough).await.unwrap();
                cable.cut().await;
                cable.mend();
                cuts += 1;
            }
            cable
        }
    });
    let emitter = here.emitter("emitter").unwrap();
    let (mut emitted, mut flushed, mut confirmed) = (0, 0, 0);
    let mut unconfirmed_batches = 0;
    while !cutting.is_finished() || flushed < 3 {
        for number in emitted..emitted + BATCH {
            emitter.emit_wave("load", &number).await.unwrap();
        }
        emitted += BATCH;
        match timeout(LONG, here.flush()).await.unwrap() {
            Ok(()) => {
                (flushed, confirmed) = (flushed + 1, emitted);
                if unconfirmed_batches == 0 {
                    continue;
                }
            }
            Err(FlushError::Unconfirmed { .. } | FlushError::Unanswered { .. }) => unconfirmed_batches += 1,
            Err(error) => panic!("{error:?}"),
        }
        if !cutting.is_finished() {
            flushed = 0;
        }
    }
    let cable = cutting.await.unwrap();
    let status = here.status();
    here.close().await.unwrap();
    there.close().await.unwrap();
    drop(cable);
    let heard = timeout(LONG, receiving).await.unwrap().unwrap();
    let lost = emitted - heard.len() as u64;
    println!(
        "{emitted} emitted, {lost} lost, {} unconfirmed; {unconfirmed_batches} batches of {BATCH} unconfirmed",
        status.unconfirmed
    );
    assert!(confirmed > 0 && lost > 0, "nothing was lost: this shows nothing");
    assert!(unconfirmed_batches > 0, "all flushes said that all waves had arrived");
    assert!(lost <= status.unconfirmed, "{lost} lost, {} counted", status.unconfirmed);
    assert_eq!(status.in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_leaves_when_it_has_received_everything_leaves_nothing_unconfirmed() {
    let ports = [free_port(), free_port()];
    let here = peer(ports[0], &[], SECRET).await;
    let emitter = here.emitter("emitter").unwrap();
    for round in 0..3_u64 {
        let view = LanView::default();
        let options = patient().secret(SECRET).view(&view);
        let url = address(free_port(), &ports[..1]);
        let there = aether::builder().url(url).options(options).connect().await.unwrap();
        met(&there, &view, 1).await;
        let mut ear = vibrator("ear", &there).await;
        ear.resonate_on("few").await.unwrap();
        for number in 0..=round {
            emitter.emit_wave("few", &number).await.unwrap();
            let heard = timeout(LONG, ear.receive()).await.unwrap().unwrap();
            assert_eq!(heard.json::<u64>().unwrap(), number);
        }
        // Its subscription is still there when it sends farewell.
        there.close().await.unwrap();
        assert_eq!(here.flush().await.ok(), Some(()));
        assert_eq!((here.status().unconfirmed, here.status().in_flight), (0, 0));
    }
    here.close().await.unwrap();
}
