//! Attacks by a process of its own that has no keys and may publish and subscribe everywhere, each on processes with
//! keys, where it has no effect, and on processes without, where its effect is bounded. docs/internals/attacks.md has
//! the figures: `AETHER_ATTACKS=20 cargo nextest run --release -p aether-bus --test suite attacks:: --no-capture`.

mod attacker;
mod flood;
mod process;
mod victims;

use std::time::{Duration, Instant};

use aether_core::{AskError, ConfirmError, Kind, Vibrator, Wave};
use futures::FutureExt as _;
use tokio::task::JoinHandle;

use process::Attacker;
use victims::{PATIENCE, Victims, resident_bytes, scale, within};

use crate::settling::flushed;

/// An answer that takes longer is late, which shows in the figures.
const SOON: Duration = Duration::from_secs(2);
/// A question of others counts as unanswered after this. On a busy machine an answer may be late.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Waves of one measurement of the speed of sending.
const EMITTED: u32 = 20_000;

fn question(text: &str) -> Wave {
    Wave::builder("shop.price").amplitude(1.0).text(text).build().unwrap()
}

fn command() -> Wave {
    Wave::builder("shop.load").kind(Kind::Command).text("x").build().unwrap()
}

/// Waves a second of a sender that respects floors, which have left and were confirmed.
async fn sent_a_second(victims: &Victims) -> u64 {
    let (begun, before) = (Instant::now(), victims.here.status().outbox.delivered);
    for number in 0..EMITTED {
        let wave = Wave::builder(format!("shop.n{}", number % 100)).text("x");
        victims.shop.emit(wave).await.unwrap();
    }
    flushed(&victims.here).await;
    let sent = victims.here.status().outbox.delivered - before;
    (sent as f64 / begun.elapsed().as_secs_f64()) as u64
}

/// Receives all waves, and answers the questions that are not the attacker's.
fn serve(mut ear: Vibrator) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(wave) = ear.receive().await {
            if wave.is_question() && wave.text().unwrap() != "overheard" {
                // An asker that gave up is not there.
                let _ = wave.reply_bytes("1").await;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_receivers_stop_no_wave_and_use_bounded_memory() {
    for has_keys in [true, false] {
        let mut victims = Victims::new(has_keys).await;
        let processes = 200 * scale();
        let mut attacker = Attacker::new("announcer", &victims.server, processes).await;
        let roster = victims.here.roster().await.unwrap();
        let serving = serve(victims.ear.take().unwrap());
        sent_a_second(&victims).await;
        let (before, memory) = (sent_a_second(&victims).await, resident_bytes());
        attacker.tell().await;
        let (mut during, mut measured) = (0, 0_u64);
        let mut done = Box::pin(attacker.says("done"));
        while measured == 0 || done.as_mut().now_or_never().is_none() {
            during += sent_a_second(&victims).await;
            measured += 1;
        }
        flushed(&victims.here).await;
        let grown = resident_bytes().saturating_sub(memory) >> 20;
        let believed = roster.vibrators().iter().filter(|known| known.vibrator.name() == "fake").count();
        println!(
            "{}: {processes} made-up processes with 256 receivers each: {before} waves/s before, {} meanwhile, \
             {believed} believed, memory +{grown} MiB",
            victims.mode(),
            during / measured
        );
        assert!(believed == 0 || !has_keys, "{believed}");
        assert!(roster.weight() <= 16 << 20 && grown < 128, "{} {grown} MiB", roster.weight());
        let status = victims.here.status();
        assert!(status.shed_at_source == 0 && (status.refused_plain > 0) == has_keys, "{status:?}");
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_repeated_questions_leaves_the_questions_of_others_answered() {
    for has_keys in [true, false] {
        let mut victims = Victims::new(has_keys).await;
        let flood = 20_000 * scale();
        let mut attacker = Attacker::new("asker", &victims.server, flood).await;
        // The attacker repeats it, as strong as the others.
        let asker = victims.shop.emitter();
        let overheard = tokio::spawn(async move { asker.ask_within(question("overheard"), PATIENCE).await });
        attacker.says("overheard").await;
        let serving = serve(victims.ear.take().unwrap());
        attacker.tell().await;
        let (mut waited, mut unanswered) = (Vec::new(), 0);
        let mut done = Box::pin(attacker.says("done"));
        while waited.len() < 200 || done.as_mut().now_or_never().is_none() {
            let begun = Instant::now();
            match victims.shop.ask_within(question("?"), ANSWERED_WITHIN).await {
                Ok(_) => waited.push(begun.elapsed()),
                Err(AskError::TimedOut { .. }) => unanswered += 1,
                Err(error) => panic!("{error}"),
            }
        }
        waited.sort();
        let p99 = waited[waited.len() * 99 / 100];
        let late = unanswered + waited.iter().filter(|waited| **waited > SOON).count();
        println!(
            "{}: {flood} repeated questions of amplitude 1.0: of {} others {late} were not answered within 2 s, p99 {p99:?}",
            victims.mode(),
            waited.len() + unanswered,
        );
        assert!(unanswered * 20 <= waited.len(), "{unanswered} of {}", waited.len());
        let replayed = victims.there.status().refused_replayed;
        assert_eq!(replayed, if has_keys { flood } else { 0 });
        overheard.abort();
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_markers_confirm_nothing_and_are_counted() {
    for has_keys in [true, false] {
        let mut victims = Victims::new(has_keys).await;
        let markers = 5_000 * scale();
        let mut attacker = Attacker::new("markers", &victims.server, markers).await;
        let serving = serve(victims.ear.take().unwrap());
        victims.shop.emit(command()).await.unwrap();
        attacker.says("overheard").await;
        attacker.tell().await;
        let mut done = Box::pin(attacker.says("done"));
        while done.as_mut().now_or_never().is_none() {
            match victims.shop.emit_confirmed(command()).await {
                // On a busy machine the server may be late. The flush below waits for it.
                Ok(_) | Err(ConfirmError::Unconfirmed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        // Behind all of the attacker's messages.
        flushed(&victims.here).await;
        let status = victims.here.status();
        println!("{}: {markers} made-up markers: {} counted", victims.mode(), status.implausible);
        assert_eq!((status.implausible, status.unconfirmed), (markers, 0), "{status:?}");
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_in_the_place_of_the_server_end_no_question_of_processes_with_keys() {
    for has_keys in [true, false] {
        let mut victims = Victims::new(has_keys).await;
        let questions = 200 * scale();
        let _attacker = Attacker::new("notices", &victims.server, 0).await;
        let serving = serve(victims.ear.take().unwrap());
        let (mut ended, mut longest) = (0_u64, Duration::ZERO);
        for _ in 0..questions {
            let begun = Instant::now();
            match victims.shop.ask_within(question("?"), PATIENCE).await {
                Ok(_) => longest = longest.max(begun.elapsed()),
                Err(AskError::NoResonator { .. }) => ended += 1,
                Err(error) => panic!("{error}"),
            }
            victims.shop.emit(command()).await.unwrap();
        }
        flushed(&victims.here).await;
        let status = victims.here.status();
        println!(
            "{}: notices that nobody listens: {ended} of {questions} questions ended, {} commands came back, {} found out, the \
             slowest answer took {longest:?}",
            victims.mode(),
            victims.here.echo_ledger().reflected,
            status.implausible,
        );
        assert!(!has_keys || (ended, victims.here.echo_ledger().reflected) == (0, 0), "{status:?}");
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_positions_invent_bounded_losses_and_none_with_keys() {
    for has_keys in [true, false] {
        let mut victims = Victims::new(has_keys).await;
        let positions = 5_000 * scale();
        let mut attacker = Attacker::new("positions", &victims.server, positions).await;
        let mut ear = victims.ear.take().unwrap();
        victims.shop.emit_bytes("shop.load", "x").await.unwrap();
        attacker.says("overheard").await;
        attacker.tell().await;
        attacker.says("done").await;
        for _ in 0..100 {
            victims.shop.emit_bytes("shop.load", "x").await.unwrap();
        }
        flushed(&victims.here).await;
        for _ in 0..101 {
            within("each real wave", ear.receive()).await.unwrap();
        }
        let status = victims.there.status();
        println!(
            "{}: {positions} made-up positions: {} losses invented, {} refused, {} implausible",
            victims.mode(),
            status.lost_upstream,
            status.refused_plain,
            status.implausible
        );
        match has_keys {
            true => assert_eq!((status.lost_upstream, status.refused_plain), (0, positions), "{status:?}"),
            // Ten million a second, and ten minutes of that at once.
            false => assert!(status.lost_upstream < 7_000_000_000 && status.implausible > 0, "{status:?}"),
        }
    }
}
