//! Processes that are stopped, and not dead: they hold up nobody else for long, and nobody loses anybody else by them.

use std::process::Command;
use std::time::{Duration, Instant};

use aether::lan::LanView;
use aether_conformance::{Cable, End};
use aether_core::{Aether, Vibrator, Wave};

use crate::lan::machine::{Process, say, told};

/// Stopped of three.
const STOPPED: usize = 2;
/// The third one waits this long for the next wave while they are stopped: half a second, or two until Zenoh gives up one
/// connection; not so long for each of them.
const HELD_UP: Duration = Duration::from_millis(2800);
const WAVE: usize = 16 << 10;
/// Waves every two milliseconds: 16 MB/s to each.
const WAVES: usize = 2;

#[test]
fn two_of_three_peers_that_are_stopped_under_load_hold_up_the_third_for_a_moment_and_nobody_loses_it() {
    let Some(cable) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
        return;
    };
    for end in [End::Left, End::Right] {
        narrow(&cable, end);
    }
    let mut watchers: Vec<_> = (0..=STOPPED).map(|_| Process::start(&cable, End::Right, "watcher")).collect();
    watchers.iter().for_each(|watcher| drop(watcher.says("ready")));
    let mut pacer = Process::start(&cable, End::Left, "pacer");
    pacer.says("paces");
    watchers.iter().for_each(|watcher| drop(watcher.says("hears")));
    let started = Instant::now();
    for watcher in &watchers[..STOPPED] {
        watcher.stop();
    }
    pacer.says("only one is left");
    let stopped_for = started.elapsed();
    println!("gone {stopped_for:?} after they were stopped");
    assert!(stopped_for < Duration::from_secs(5), "{stopped_for:?}");
    let third = &mut watchers[STOPPED];
    third.tell();
    let [longest, known_for, lost] = third.counts("watched")[..] else { panic!("no account") };
    pacer.tell();
    let [emitted, unconfirmed] = pacer.counts("paced")[..] else { panic!("no account") };
    println!("{emitted} emitted, {unconfirmed} of them unconfirmed; longest wait of the third {longest} ms");
    assert!(Duration::from_millis(longest) < HELD_UP, "{longest} ms");
    assert!(Duration::from_millis(known_for) >= stopped_for, "it was lost");
    assert_eq!(lost, 0, "the third missed some");
    assert!(unconfirmed > 0, "what the others did not take is counted");
}

/// So that little is under way in the system.
fn narrow(cable: &Cable, end: End) {
    let set = "for side in rmem wmem; do echo 4096 65536 131072 > /proc/sys/net/ipv4/tcp_$side; done";
    assert!(cable.command(end, "sh").args(["-c", set]).status().unwrap().success());
}

impl Process {
    /// Stops it without ending it.
    fn stop(&self) {
        assert!(Command::new("kill").args(["-STOP", &self.id().to_string()]).status().unwrap().success());
    }
}

/// In the role of the pacer: emits all the time once three are there, and prints when all but one have gone.
pub(crate) async fn pace(aether: &Aether, view: &LanView) {
    let mut changes = view.changes().unwrap();
    while view.peers().len() <= STOPPED {
        changes.changed().await.unwrap();
    }
    say("paces");
    let emitter = aether.emitter("pacer").unwrap();
    let payload = vec![b'p'; WAVE];
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let mut stop = tokio::spawn(told());
    let (mut emitted, mut was_alone) = (0_u64, false);
    while !stop.is_finished() {
        ticks.tick().await;
        for _ in 0..WAVES {
            emitter.emit_bytes("tick.one", payload.clone()).await.unwrap();
            emitted += 1;
        }
        if !was_alone && view.peers().len() == 1 {
            was_alone = true;
            say("only one is left");
        }
    }
    (&mut stop).await.unwrap();
    // On a busy machine one that is not stopped may answer nothing for the 2 s of a flush.
    let flushing = async { while aether.flush().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(120), flushing).await.expect("the third has all");
    say(format_args!("paced {emitted} {}", aether.status().unconfirmed));
}

/// In the role of a watcher: prints, when the test asks, the longest time between two waves and how long it knows the
/// pacer, in milliseconds, and how many waves it misses.
pub(crate) async fn watch(aether: &Aether, view: &LanView) {
    let mut ear = Vibrator::builder("ear").create(aether).await.unwrap();
    ear.resonate_on("tick.*").await.unwrap();
    say("ready");
    let first: Wave = ear.receive().await.unwrap();
    assert_eq!(first.payload().len(), WAVE);
    say("hears");
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let mut stop = tokio::spawn(told());
    loop {
        tokio::select! {
            wave = ear.receive() => {
                wave.unwrap();
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            _ = &mut stop => break,
        }
    }
    let pacer = view.peers().into_iter().find(|peer| peer.name == "pacer");
    let known_for = pacer.map_or(Duration::ZERO, |pacer| pacer.since);
    let lost = ear.ledger().lost_upstream;
    say(format_args!("watched {} {} {lost}", longest.as_millis(), known_for.as_millis()));
    // Until it is killed. Were nothing received any more, a full inbox would hold up what the pacer still has to send.
    while ear.receive().await.is_some() {}
}
