//! The same seed makes the same run: the same messages at the same times, whatever the order of hash tables is.

use std::sync::Arc;
use std::time::Duration;

use aether_core::clock::{self, follow_tokio};
use aether_core::{Aether, InboxOptions, Vibrator, Wave, WhenFull};
use parking_lot::Mutex;

use crate::memory::Memory;

const SEEDS: u64 = 20;
/// The lane of messages that keep the peers together.
const CONTROL: u8 = 1;

/// The events, each with its time since the start of the run.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Duration, String)>>>);

/// A part of the run that writes the log.
#[derive(Clone)]
struct Scene {
    log: Log,
    began: clock::Instant,
}

impl Scene {
    fn note(&self, what: String) {
        self.log.0.lock().push((clock::since(self.began), what));
    }

    /// Hears in the background, and sometimes answers.
    fn hear(&self, name: String, mut ear: Vibrator) {
        let scene = self.clone();
        tokio::spawn(async move {
            while let Some(wave) = ear.receive().await {
                let payload = String::from_utf8_lossy(wave.payload()).into_owned();
                scene.note(format!("{name} hears {payload} on {}", wave.channel()));
                if wave.is_question() {
                    let _ = wave.reply(name.clone()).await;
                }
                // Slower than what comes, so that senders are asked to pause.
                tokio::time::sleep(Duration::from_micros(700)).await;
            }
        });
    }
}

async fn ears(scene: &Scene, name: &str, aether: &Aether) {
    let patience = Duration::from_secs(5);
    for (number, pattern) in ["said.*", "said.>", ">", "said.a", "*.b"].into_iter().enumerate() {
        let inbox = InboxOptions::default().max_waves(8).when_full(WhenFull::Wait { patience });
        let ear = format!("{name}-{number}");
        let vibrator = Vibrator::builder(&ear).inbox(inbox).create(aether).await.unwrap();
        vibrator.resonate_on(pattern).await.unwrap();
        vibrator.resonate_in_group(format!("shared.{number}"), "group").await.unwrap();
        vibrator.resonate_in_group("shared.*", "other").await.unwrap();
        scene.hear(ear, vibrator);
    }
}

/// Emits, asks and flushes by several tasks at once.
async fn traffic(scene: &Scene, name: &str, aether: &Aether) {
    let tasks = (0..4).map(|task| {
        let (scene, aether, name) = (scene.clone(), aether.clone(), format!("{name}/{task}"));
        tokio::spawn(async move {
            let emitter = aether.emitter("emitter").unwrap();
            for number in 0..30 {
                let channel = ["said.a", "said.b", "shared.1", "shared.2"][fastrand::usize(..4)];
                emitter.emit_bytes(channel, format!("{name}:{number}")).await.unwrap();
                if fastrand::u8(..4) == 0 {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..20))).await;
                }
            }
            let answer =
                emitter.ask_within(Wave::builder("shared.3").bytes("question"), Duration::from_secs(1)).await;
            scene.note(format!("{name} is answered: {}", answer.is_ok()));
            let flushed = aether.flush().await;
            scene.note(format!("{name} flushed: {flushed:?}"));
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

async fn run() -> Vec<(Duration, String)> {
    let scene = Scene { log: Log::default(), began: clock::now() };
    let memory = Memory::default();
    memory.lose({
        let scene = scene.clone();
        move |sent| {
            let is_lost = fastrand::u8(..100) < if sent.lane == CONTROL { 2 } else { 10 };
            let (length, mark) = (sent.bytes.len(), if is_lost { " lost" } else { "" });
            scene.note(format!("{:x} to {:x} in {}: {length}{mark}", sent.from, sent.to, sent.lane));
            is_lost
        }
    });
    let names = ["one", "two", "three"];
    let mut processes = Vec::new();
    for name in names {
        processes.push(memory.connect(name).await);
    }
    for (name, aether) in names.into_iter().zip(&processes) {
        ears(&scene, name, aether).await;
    }
    let [one, two, three] = &processes[..] else { panic!("three") };
    tokio::join!(traffic(&scene, "one", one), traffic(&scene, "two", two), traffic(&scene, "three", three));
    for (name, aether) in names.into_iter().zip(&processes) {
        let closed = aether.close().await;
        let status = aether.status();
        scene.note(format!("{name} closed: {closed:?} {} {}", status.unconfirmed, status.lost_upstream));
    }
    std::mem::take(&mut *scene.log.0.lock())
}

/// Runs in a thread of its own, so that nothing of an earlier run counts.
fn log_of(seed: u64) -> Vec<(Duration, String)> {
    let run = move || {
        fastrand::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(run())
    };
    std::thread::spawn(run).join().unwrap()
}

#[test]
fn the_same_seed_makes_the_same_run_and_another_one_another() {
    follow_tokio();
    let mut logs = Vec::new();
    for seed in 0..SEEDS {
        let (log, again) = (log_of(seed), log_of(seed));
        let differs = log.iter().zip(&again).position(|(one, other)| one != other);
        if let Some(place) = differs {
            let around = place.saturating_sub(5)..place + 3;
            panic!(
                "seed {seed}, line {place}: {:#?}\nand {:#?}",
                &log.get(around.clone()),
                again.get(around)
            );
        }
        assert_eq!(log.len(), again.len(), "seed {seed}");
        logs.push(log);
    }
    logs.dedup();
    assert_eq!(logs.len() as u64, SEEDS);
}
