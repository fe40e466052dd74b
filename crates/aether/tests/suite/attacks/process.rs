//! The attacker: this test program again, as a process of its own, so that its memory and its work do not count as the
//! victims'.

use std::process::Stdio;

use aether_conformance::NatsServer;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::attacks::attacker;
use crate::attacks::victims::within;

const ROLE: &str = "AETHER_TEST_ATTACK";
const URL: &str = "AETHER_TEST_ATTACK_URL";
const COUNT: &str = "AETHER_TEST_ATTACK_COUNT";

/// A running attacker, killed on drop.
pub(crate) struct Attacker {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Attacker {
    /// Starts one that repeats the work of its role `count` times, once the test starts it. It has subscribed to what
    /// it wants to hear.
    pub(crate) async fn new(role: &str, server: &NatsServer, count: u64) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "attacks::process::an_attacker_without_keys", "--nocapture"])
            .env(ROLE, role)
            .env(URL, server.url())
            .env(COUNT, count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut attacker = Self { _process: process, input, output: BufReader::new(output).lines() };
        attacker.says("listens").await;
        attacker
    }

    /// Waits for a line, and returns the number behind its word.
    pub(crate) async fn says(&mut self, word: &str) -> u64 {
        let saying = async {
            loop {
                let line = self.output.next_line().await.unwrap().expect("the attacker goes on");
                // The test harness writes lines of its own, and begins one with the name of the test.
                if let Some((_, rest)) = line.split_once(word) {
                    return rest.trim().parse().unwrap_or_default();
                }
            }
        };
        within(word, saying).await
    }

    /// Lets it go on.
    pub(crate) async fn tell(&mut self) {
        self.input.write_all(b"go\n").await.unwrap();
    }
}

/// The attacker; does nothing without its role.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attacker_without_keys() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (url, count) = (std::env::var(URL).unwrap(), std::env::var(COUNT).unwrap().parse().unwrap());
    match &*role {
        "announcer" => attacker::announce(&url, count).await,
        "asker" => attacker::ask(&url, count).await,
        "flood" => attacker::flood(&url, count).await,
        "markers" => attacker::forge_markers(&url, count).await,
        "notices" => attacker::say_nobody_hears(&url).await,
        "positions" => attacker::forge_positions(&url, count).await,
        role => panic!("{role} is not a role"),
    }
}

/// Tells the test something.
pub(crate) fn say(text: impl std::fmt::Display) {
    println!("\n{text}");
}

/// Waits for the line of the test.
pub(crate) async fn told() {
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    assert_eq!(line.await.unwrap().unwrap(), "go\n", "the test has ended");
}
