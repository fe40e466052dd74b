//! Bursts that a listener cannot print as fast as they are emitted, and listeners that do not run for a while.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::nats::{listener, server, with};
use crate::process::{PATIENCE, Running, run};

const WAVES: usize = 100_000;

/// Alone it watches, in a group senders wait for it.
const LISTENERS: [&[&str]; 2] = [&["bar.x", "--json"], &["bar.x", "--json", "--group", "g"]];

fn emit(medium: &[String; 2]) -> Vec<&str> {
    with(&["emit", "bar.x", r#"{"k":1}"#, "--count", "100000"], medium)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_every_wave_of_a_burst() {
    let (_server, medium) = server().await;
    for args in LISTENERS {
        let mut listener = listener(&[args, &["--count", "100000"]].concat(), &medium);
        let lines = listener.take_lines();
        let emitted = run(&emit(&medium));
        assert_eq!(emitted.code, Some(0), "{}", emitted.err);
        for count in 0..WAVES {
            if lines.recv_timeout(PATIENCE).is_err() {
                listener.signal(Signal::SIGTERM);
                panic!("{args:?}: {count} lines, {emitted:?}, {:?}", listener.end());
            }
        }
        let (said, _) = listener.end();
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_frozen_for_a_while_misses_nothing_that_the_server_holds() {
    let frozen = async |args: &'static [&'static str]| {
        let (server, medium) = server().await;
        tokio::task::spawn_blocking(move || freeze(&medium, args)).await.unwrap();
        drop(server);
    };
    let [alone, in_a_group] = LISTENERS;
    tokio::join!(frozen(alone), frozen(in_a_group));
}

fn freeze(medium: &[String; 2], args: &[&str]) {
    let mut listener = listener(&[args, &["--count", "100000"]].concat(), medium);
    let emitting = Running::start(&emit(medium));
    for _ in 0..1000 {
        listener.line();
    }
    listener.signal(Signal::SIGSTOP);
    // The subject of the test: for this long it does not run.
    std::thread::sleep(Duration::from_secs(3));
    listener.signal(Signal::SIGCONT);
    for _ in 1000..WAVES {
        listener.line();
    }
    for running in [emitting, listener] {
        let (said, _) = running.end();
        assert_eq!(said.code, Some(0), "{args:?}: {}", said.err);
    }
}
