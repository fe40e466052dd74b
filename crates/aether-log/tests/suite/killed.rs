//! A service that emits waves for later and is killed: the part that is the same in a folder and in JetStream.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use aether_core::{Aether, Wave};

/// Prints a line that is read also where the output of the test harness is in front of it.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// Emits from four tasks, each wave for a time within `longest` milliseconds, and prints a line after each receipt.
pub(crate) async fn emit_for_later(aether: &Aether, longest: u64) {
    let round = std::env::var("AETHER_LOG_ROUND").unwrap();
    let tasks = (0..4).map(|task| {
        let (shop, round) = (aether.emitter("shop").unwrap(), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{round}.{task}.{number}");
                let after = Duration::from_millis(fastrand::u64(1..longest));
                shop.emit(Wave::builder("orders.created").text(&*name).after(after)).await.unwrap();
                say(format_args!("stored {name} ."));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Runs a test that emits for later, kills it after at most `most` receipts, and returns the names of the waves.
pub(crate) fn run_and_kill(
    test: &str,
    (variable, place): (&str, &OsStr),
    round: u64,
    most: usize,
) -> Vec<String> {
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(variable, place)
        .env("AETHER_LOG_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let (mut stored, most) = (Vec::new(), 1 + fastrand::usize(..most));
    for line in lines {
        // The end of a line that was cut off is missing.
        if let Some(name) = line.unwrap().strip_prefix("stored ").and_then(|name| name.strip_suffix(" .")) {
            stored.push(name.to_owned());
        }
        if stored.len() == most {
            std::thread::sleep(Duration::from_micros(fastrand::u64(..5000)));
            service.kill().unwrap();
        }
    }
    service.wait().unwrap();
    stored
}
