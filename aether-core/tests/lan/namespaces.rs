//! Two processes in two network namespaces with a cable between them: found by multicast, with nothing but a secret.
//!
//! The processes are this test program again. Needs the right to make namespaces (root) and `ip`; without them the test
//! fails, unless `AETHER_NO_NAMESPACES=1` says that this machine has no such right.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use aether_core::conformance::{Cable, End};
use aether_core::medium::LanOptions;
use aether_core::{Aether, AskError, Vibrator, Wave};

const ROLE: &str = "AETHER_TEST_LAN_ROLE";
const SECRET: &str = "two machines and a cable";
/// A peer is gone within this time.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(40);

/// A process in a namespace, and the lines that it says.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(cable: &Cable, end: End, role: &str) -> Self {
        let mut command = cable.command(end, std::env::current_exe().unwrap());
        command.args(["--exact", "namespaces::a_machine", "--nocapture"]);
        command.env(ROLE, role).env("AETHER_LAN_SECRET", SECRET);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(said) = line.split_once("SAID ").map(|(_, said)| said.to_owned()) {
                    let _ = sender.send(said);
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that begins so, and returns the rest.
    fn says(&self, start: &str) -> String {
        let deadline = Instant::now() + LONG;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(start) {
                        return rest.trim().to_owned();
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("nothing said {start:?} for {LONG:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before it said {start:?}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_machines_with_nothing_but_a_secret_find_each_other_and_survive_a_pulled_cable() {
    let Some(cable) = Cable::lay().unwrap_or_else(|error| panic!("{error}")) else {
        return;
    };
    let listener = Process::start(&cable, End::Right, "listener");
    listener.says("ready");
    let started = Instant::now();
    let emitter = Process::start(&cable, End::Left, "emitter");
    emitter.says("answered");
    println!("found and answered {:?} after the start of the process", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());

    cable.unplug(End::Right).unwrap();
    let pulled = Instant::now();
    emitter.says("gone");
    println!("gone {:?} after the cable was pulled", pulled.elapsed());
    assert!(pulled.elapsed() < LEAVE_WITHIN, "{:?}", pulled.elapsed());
    cable.plug(End::Right).unwrap();
    let plugged = Instant::now();
    emitter.says("back");
    println!("back {:?} after the cable was plugged in", plugged.elapsed());
    let emitted: u64 = emitter.says("emitted").parse().unwrap();
    let account = listener.says("account");
    let numbers: Vec<u64> = account.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [heard, repeated, lost] = numbers[..] else { panic!("{account}") };
    println!("emitted {emitted}, heard {heard}, lost and counted {lost}");
    assert_eq!(repeated, 0, "{account}");
    assert_eq!(heard + lost, emitted, "each wave was heard or is known to be lost: {account}");
    assert!(lost > 0, "some were emitted while the cable was out");
}

/// One of the processes of the test above; does nothing without its role.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let options = LanOptions::default().name(role.clone());
    let aether = Aether::builder().url("lan:").options(options).connect().await.unwrap();
    let vibrator = Vibrator::builder(&role).create(&aether).await.unwrap();
    match &*role {
        "listener" => listen(vibrator, &aether).await,
        _ => emit(vibrator, &aether).await,
    }
}

fn say(text: impl std::fmt::Display) {
    println!("SAID {text}");
}

async fn listen(mut ear: Vibrator, aether: &Aether) {
    let mut account = Vibrator::builder("account").create(aether).await.unwrap();
    account.resonate_on("account").await.unwrap();
    ear.resonate_on("tick").await.unwrap();
    let mut oracle = Vibrator::builder("oracle").create(aether).await.unwrap();
    oracle.resonate_on("ask").await.unwrap();
    say("ready");
    let mut seen = std::collections::HashSet::new();
    let mut repeated = 0_u64;
    loop {
        tokio::select! {
            wave = ear.receive() => repeated += u64::from(!seen.insert(wave.unwrap().sequence())),
            question = oracle.receive() => question.unwrap().reply(&1).await.unwrap(),
            question = account.receive() => {
                // All waves came before the question, in their own order; they may be in the inbox.
                while let Ok(Some(wave)) = tokio::time::timeout(Duration::from_millis(300), ear.receive()).await {
                    repeated += u64::from(!seen.insert(wave.sequence()));
                }
                let lost = ear.ledger().lost_upstream;
                say(format_args!("account {} {repeated} {lost}", seen.len()));
                question.unwrap().reply(&1).await.unwrap();
            }
        }
    }
}

async fn emit(emitter: Vibrator, aether: &Aether) {
    let mut emitted = 0_u64;
    let question = || Wave::builder("ask").text("?").build().unwrap();
    let mut phase = 0;
    // The waves of `tick` come from an emitter that does nothing else, so that their numbers are theirs alone.
    let ticker = Vibrator::builder("ticker").create(aether).await.unwrap();
    while phase < 3 {
        let asked = emitter.ask_within(question(), Duration::from_millis(100)).await;
        let next = match (phase, asked) {
            (0, Ok(_)) => Some("answered"),
            (1, Err(AskError::NoResonator { .. })) => Some("gone"),
            (2, Ok(_)) => Some("back"),
            _ => None,
        };
        if let Some(text) = next {
            say(text);
            phase += 1;
        }
        for _ in 0..10 {
            // Only what the listener can hear or miss counts: it was there from phase 1 on.
            if phase > 0 {
                ticker.emit(Wave::builder("tick").text("t").build().unwrap()).await.unwrap();
                emitted += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    aether.flush().await.unwrap();
    say(format_args!("emitted {emitted}"));
    let account = Wave::builder("account").text("?").build().unwrap();
    emitter.ask_within(account, Duration::from_secs(10)).await.unwrap();
    aether.close().await.unwrap();
}
