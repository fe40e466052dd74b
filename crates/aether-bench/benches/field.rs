//! The field: the cost of a write, a durable write, a restart and a reconciliation, beside the sync engine where it
//! does the same.
//!
//! `cargo xtask bench field --part core`

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::time::{Duration, Instant};

use aether_core::Aether;
use aether_field::Field;
use aether_field::core::{
    Change, Identity, Initiator, Intake, Limits, Message, Responder, State, Trust, WriterId,
};

/// The registers of the large states.
const KEYS: u64 = 1_000_000;
/// The registers that differ.
const DIFFERENT: u64 = 100;
/// Repetitions; medians are printed.
const ROUNDS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // First, while nothing was freed that could be used again.
    let memory = runtime.block_on(memory());
    println!("| what | median of {ROUNDS} |");
    println!("|---|---|");
    println!(
        "| `set` and the update of a watcher, one replica | {:.2} us |",
        median(|| runtime.block_on(set_and_watch()))
    );
    let rate = median(|| runtime.block_on(durable()));
    println!("| durable writes, 64 writers, {} | {rate:.0} a second |", std::env::temp_dir().display());
    let (rate, open) = runtime.block_on(restart());
    println!("| replay at start, 100,000 registers in {open:.0} ms | {rate:.0} a second |");
    for scattered in [false, true] {
        let place = if scattered { "scattered" } else { "newest" };
        let (rounds, bytes, ms) = reconcile(scattered);
        println!(
            "| {KEYS} registers of which {DIFFERENT} differ ({place}) | {rounds} round trips, {} KiB, {ms:.0} ms |",
            bytes / 1024
        );
    }
    let Owned { sign, check, repeat, forged, load } = owned();
    println!("| owned state: a write, signed | {sign:.1} us |");
    println!("| owned state: a change of another replica, checked | {check:.1} us |");
    println!("| owned state: the same change once more | {repeat:.2} us |");
    println!("| owned state: a message of 100 changes with wrong signatures, refused | {forged:.1} us |");
    println!("| owned state: 100,000 values loaded and checked at start | {load:.0} ms |");
    println!("| memory of a register beyond key and value | {memory} bytes |");
    beside();
}

/// The sync engine, which knows neither durable acknowledgements in groups, nor reconciliation, nor owners.
fn beside() {
    let Some(python) = std::env::var_os("AETHER_SYNC_ENGINE").filter(|python| python != "none") else {
        return println!("\nThe sync engine is not installed (AETHER_SYNC_ENGINE), so it is left out.");
    };
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/sync_engine.py");
    let output = std::process::Command::new(python).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("\n| the sync engine, once | |\n|---|---|");
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (what, figure) = line.split_once('\t').unwrap();
        println!("| {what} | {figure} |");
    }
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<_> = (0..ROUNDS).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}

/// Microseconds a write.
async fn set_and_watch() -> f64 {
    const WRITES: u32 = 100_000;
    let field = Field::builder("bench").join(&Aether::local()).await.unwrap();
    let mut updates = field.watch("*");
    let start = Instant::now();
    for n in 0..WRITES {
        field.set("key", &n).unwrap();
        updates.next().await.unwrap();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(WRITES)
}

/// Durable writes a second.
async fn durable() -> f64 {
    const WRITERS: u32 = 64;
    const EACH: u32 = 300;
    let folder = tempfile::tempdir().unwrap();
    let field =
        Field::builder("bench").store(folder.path().join("field")).join(&Aether::local()).await.unwrap();
    let start = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let field = field.clone();
        writers.spawn(async move {
            for n in 0..EACH {
                field.set(&format!("{writer}/{n}"), &n).unwrap();
                field.durable().await.unwrap();
            }
        });
    }
    writers.join_all().await;
    f64::from(WRITERS * EACH) / start.elapsed().as_secs_f64()
}

/// Registers replayed a second, and milliseconds to open.
async fn restart() -> (f64, f64) {
    const REGISTERS: u32 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("field");
    let field = Field::builder("bench").store(&path).join(&Aether::local()).await.unwrap();
    for n in 0..REGISTERS {
        field.set(&format!("key/{n}"), &n).unwrap();
    }
    field.close().await.unwrap();
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let field = Field::builder("bench").store(&path).join(&Aether::local()).await.unwrap();
        all.push(start.elapsed());
        assert_eq!(field.list("*").len(), REGISTERS as usize);
        field.close().await.unwrap();
    }
    all.sort();
    let median: Duration = all[ROUNDS / 2];
    (f64::from(REGISTERS) / median.as_secs_f64(), median.as_secs_f64() * 1e3)
}

fn large(writer: u64) -> State {
    let mut state = State::new(WriterId(writer), Limits::default());
    for n in 0..KEYS {
        state.set(&format!("key/{n}"), "value".into(), 1_000_000 + n).unwrap();
    }
    state
}

/// Round trips, bytes both ways, milliseconds on one core, both sides included.
fn reconcile(scattered: bool) -> (u32, usize, f64) {
    let mut a = large(1);
    let mut b = State::restore(
        WriterId(2),
        Limits::default(),
        a.entries().map(|(key, entry)| aether_field::core::Change { key: key.clone(), entry: entry.clone() }),
        a.collected(),
        a.last_stamp(),
    )
    .unwrap();
    let step = if scattered { KEYS / DIFFERENT } else { 1 };
    // In the past of the others, as after a partition; or newer than all.
    for n in 0..DIFFERENT {
        let wall = if scattered { 1_000_000 + n * step } else { 3_000_000 + n };
        let mut writer = State::new(WriterId(3), Limits::default());
        let change = writer.set(&format!("new/{n}"), "value".into(), wall).unwrap();
        let _ = a.apply(change, 10_000_000).unwrap();
    }
    let wall = 20_000_000;
    let size = |message: &Message| postcard::to_allocvec(message).unwrap().len();
    let start = Instant::now();
    let (mut initiator, first) = Initiator::start(&mut b).unwrap();
    let mut responder = Responder::default();
    let (mut round_trips, mut bytes) = (0, 0);
    let mut to_send = vec![first];
    while !to_send.is_empty() {
        round_trips += 1;
        // As a replica does it: all messages of a round in one question, all answers to them in one answer.
        for message in std::mem::take(&mut to_send) {
            bytes += size(&message);
            for answer in responder.handle(&mut a, message, wall).unwrap().send {
                bytes += size(&answer);
                to_send.extend(initiator.handle(&mut b, answer, wall).unwrap().send);
            }
        }
    }
    let ms = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(a.digest(), b.digest());
    (round_trips, bytes, ms)
}

/// Bytes of resident memory for each of a million registers of a replica, without their 10 bytes of key and 7 of value.
async fn memory() -> u64 {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    };
    let field = Field::builder("bench").join(&Aether::local()).await.unwrap();
    let before = resident();
    for n in 0..KEYS {
        field.set(&format!("key/{n:06}"), "value").unwrap();
        if n % 1000 == 0 {
            // Waiting changes do not belong to a register.
            tokio::task::yield_now().await;
        }
    }
    let after = resident();
    assert_eq!(field.status().entries, KEYS);
    (after.saturating_sub(before) / KEYS).saturating_sub(17)
}

/// The cost of owned state, in microseconds a change, and in milliseconds for the load.
struct Owned {
    sign: f64,
    check: f64,
    repeat: f64,
    forged: f64,
    load: f64,
}

fn owned() -> Owned {
    const VALUES: u64 = 100_000;
    const NOW: u64 = 1_700_000_000_000_000;
    let identity = Identity::generate("pi-2").unwrap();
    let state = |writer| {
        let trust = Trust::none().with_self(&identity);
        State::new(WriterId(writer), Limits::default()).with_trust("bench", trust)
    };
    let each = |start: Instant, count: u64| start.elapsed().as_secs_f64() * 1e6 / count as f64;
    let (mut from, mut to) = (state(1), state(2));
    let start = Instant::now();
    let changes: Vec<_> = (0..VALUES)
        .map(|n| from.set_owned(&identity, &format!("key/{n}"), "21.5".into(), NOW).unwrap().0)
        .collect();
    let sign = each(start, VALUES);
    let copies = changes.clone();
    let start = Instant::now();
    for change in copies {
        let _ = to.apply(change, NOW).unwrap();
    }
    let check = each(start, VALUES);
    let copies = changes.clone();
    let start = Instant::now();
    for change in copies {
        let _ = to.apply(change, NOW).unwrap();
    }
    let repeat = each(start, VALUES);
    let forge = |mut change: Change| {
        let mut value = change.entry.value.take().unwrap().to_vec();
        value[20] ^= 1;
        change.entry.value = Some(value.into());
        change
    };
    let mut others = state(3);
    let start = Instant::now();
    for message in changes.chunks(100) {
        let mut intake = Intake::default();
        let refused = message.iter().map(|change| intake.apply(&mut others, forge(change.clone()), NOW));
        assert!(refused.filter(Result::is_ok).count() == 0);
    }
    let forged = each(start, VALUES / 100);
    let mut loaded = state(4);
    let start = Instant::now();
    assert!(loaded.load_owned(changes).is_empty());
    Owned { sign, check, repeat, forged, load: start.elapsed().as_secs_f64() * 1e3 }
}
