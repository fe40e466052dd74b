//! The processes of tests with several machines: this test program again, in a role, at an end of a cable.
//!
//! Needs the right to make namespaces (root), `ip` and `nft`; without them the tests fail, unless `AETHER_NO_NAMESPACES=1`
//! declares that this machine has no such right.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use aether::lan::{LanOptions, LanRouter, LanView};
use aether_conformance::{Cable, End};
use aether_core::{Aether, AskError, Vibrator, Wave};

use crate::lan::{groups, hostile, stopping, stranger};

const ROLE: &str = "AETHER_TEST_LAN_ROLE";
const URL: &str = "AETHER_TEST_LAN_URL";
/// How many of what the role does.
const COUNT: &str = "AETHER_TEST_LAN_COUNT";
const SECRET: &str = "two machines and a cable";
/// The line of a process that needs more than [`LONG`], and still works.
pub(crate) const GOES_ON: &str = "it goes on";
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(180);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts while nobody is found, and between two bursts of waves.
const PAUSE: Duration = Duration::from_millis(20);

/// A process in a namespace, and the lines that it prints.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts one that finds others by multicast.
    pub(crate) fn start(cable: &Cable, end: End, role: &str) -> Self {
        Self::start_with(cable, end, role, "lan:", 0)
    }

    pub(crate) fn start_with(cable: &Cable, end: End, role: &str, url: &str, count: u64) -> Self {
        let mut command = cable.command(end, std::env::current_exe().unwrap());
        command.args(["--exact", "lan::machine::a_machine", "--nocapture"]);
        command.env(ROLE, role).env(URL, url).env(COUNT, count.to_string()).env("AETHER_LAN_SECRET", SECRET);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// Waits for a line that begins so, and returns the rest. It is patient as long as the process [goes on](GOES_ON).
    pub(crate) fn says(&self, start: &str) -> String {
        let mut deadline = Instant::now() + LONG;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    // Also one of a task of Zenoh, which ends nothing else.
                    if line.contains("panicked at") {
                        // The line after it has the reason.
                        let why = self.lines.recv_timeout(PAUSE * 50).unwrap_or_default();
                        panic!("{line} {why}");
                    }
                    let Some((_, said)) = line.split_once("SAID ") else { continue };
                    if said == GOES_ON {
                        deadline = Instant::now() + LONG;
                    } else if let Some(rest) = said.strip_prefix(start) {
                        return rest.trim().to_owned();
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("nothing said {start:?} for {LONG:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before it said {start:?}"),
            }
        }
    }

    /// The numbers behind such a line.
    pub(crate) fn counts(&self, start: &str) -> Vec<u64> {
        self.says(start).split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    /// The rests of all lines that begin so, until one that begins otherwise marks the end, or the process has ended.
    pub(crate) fn all(&self, start: &str, end: &str) -> Vec<String> {
        let mut rests = Vec::new();
        loop {
            match self.lines.recv_timeout(LONG) {
                Ok(line) => {
                    let said = line.split_once("SAID ").map_or("", |(_, said)| said);
                    if said.starts_with(end) {
                        return rests;
                    }
                    rests.extend(said.strip_prefix(start).map(|rest| rest.trim().to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => panic!("nothing said {end:?} for {LONG:?}"),
                Err(RecvTimeoutError::Disconnected) => return rests,
            }
        }
    }

    /// Lets a role go on that waits for it.
    pub(crate) fn tell(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// The same, also if it was killed.
    pub(crate) fn tell_if_alive(&mut self) {
        let _ = self.child.stdin.as_mut().map(|stdin| stdin.write_all(b"\n"));
    }

    /// Ends it without a warning: SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its number in the system.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had, in KiB.
    pub(crate) fn most_memory(&self) -> u64 {
        // Source: proc(5).
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the processes; does nothing without its role.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let count = std::env::var(COUNT).unwrap().parse().unwrap();
    match &*role {
        "attacker" => {
            hostile::attack(count).await;
            return say(format_args!("attacked {count}"));
        }
        "stranger" => return stranger::intrude(count).await,
        _ => {}
    }
    let url = std::env::var(URL).unwrap();
    if role == "router" {
        return route(&url).await;
    }
    let view = LanView::default();
    let options = LanOptions::default().name(role.clone()).view(&view);
    let aether = aether::builder().url(url).options(options).connect().await.unwrap();
    match &*role {
        "listener" => listen(&aether).await,
        "ticker" => tick(&aether).await,
        "sender" => send(&aether, count).await,
        "asker" => ask(&aether).await,
        "newcomer" => answered(&aether).await,
        "boss" => groups::emit(&aether, &view).await,
        "member" => groups::work(&aether).await,
        "pacer" => stopping::pace(&aether, &view).await,
        "watcher" => stopping::watch(&aether, &view).await,
        role => panic!("{role} is not a role"),
    }
}

/// Connects networks until it is killed.
async fn route(url: &str) {
    let mut router = LanRouter::open(url).await.unwrap();
    say("ready");
    while router.changed().await.is_some() {}
}

pub(crate) fn say(text: impl std::fmt::Display) {
    println!("SAID {text}");
}

pub(crate) async fn told() {
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
}

/// The waves that were heard.
#[derive(Default)]
struct Heard {
    seen: HashSet<(String, u64)>,
    /// The last number by source and channel.
    last: HashMap<(String, String), u64>,
    repeated: u64,
    disordered: u64,
}

impl Heard {
    fn note(&mut self, wave: &Wave) {
        let source = wave.source().to_string();
        self.repeated += u64::from(!self.seen.insert((source.clone(), wave.sequence())));
        let last = self.last.insert((source, wave.channel().to_string()), wave.sequence());
        self.disordered += u64::from(last.is_some_and(|last| last >= wave.sequence()));
    }
}

/// Hears `tick.*`, and prints it with the first wave; answers; and prints what it has heard when it is asked.
async fn listen(aether: &Aether) {
    let mut account = Vibrator::builder("account").create(aether).await.unwrap();
    account.resonate_on("account").await.unwrap();
    let mut ear = Vibrator::builder("ear").create(aether).await.unwrap();
    ear.resonate_on("tick.*").await.unwrap();
    let mut oracle = Vibrator::builder("oracle").create(aether).await.unwrap();
    oracle.resonate_on("ask").await.unwrap();
    say("ready");
    let mut heard = Heard::default();
    loop {
        tokio::select! {
            wave = ear.receive() => {
                heard.note(&wave.unwrap());
                if heard.seen.len() == 1 {
                    say("hears");
                }
            }
            question = oracle.receive() => question.unwrap().reply(&1).await.unwrap(),
            question = account.receive() => {
                // The sender has flushed, so all waves are in the inbox.
                while let Ok(wave) = ear.try_receive() {
                    heard.note(&wave);
                }
                let ledger = ear.ledger();
                assert!(ledger.adds_up(), "{ledger:?}");
                let Heard { seen, repeated, disordered, .. } = &heard;
                let status = aether.status();
                say(format_args!(
                    "refused {} {} {} {} {}",
                    status.refused_plain,
                    status.refused_unknown_key,
                    status.refused_tampered,
                    status.refused_replayed,
                    status.malformed
                ));
                say(format_args!("account {} {repeated} {disordered} {}", seen.len(), ledger.lost_upstream));
                question.unwrap().reply(&1).await.unwrap();
            }
        }
    }
}

fn question() -> Wave {
    Wave::builder("ask").text("?").build().unwrap()
}

/// Asks until it is answered.
async fn answered(aether: &Aether) {
    let asker = aether.emitter("asker").unwrap();
    while asker.ask_within(question(), PATIENCE).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    say("answered");
}

/// Has the listener say its account.
async fn accounted(aether: &Aether) {
    let question = Wave::builder("account").text("?").build().unwrap();
    aether.emitter("accountant").unwrap().ask_within(question, LONG).await.unwrap();
}

/// Has the waves accounted for.
async fn account(aether: &Aether, emitted: u64) {
    // What is under way on a line that just came back may need another attempt.
    while aether.flush().await.is_err() {}
    let outbox = aether.status().outbox;
    assert!(outbox.adds_up(), "{outbox:?}");
    say(format_args!("emitted {emitted} {}", outbox.lost()));
    accounted(aether).await;
    aether.close().await.unwrap();
}

/// Emits all the time, and prints when the listener has answered, when it has gone, and when it is back.
async fn tick(aether: &Aether) {
    let asker = aether.emitter("asker").unwrap();
    // The waves of `tick` come from an emitter that does nothing else, so that their numbers are theirs alone.
    let ticker = aether.emitter("ticker").unwrap();
    let (mut phase, mut emitted) = (0, 0_u64);
    while phase < 3 {
        let asked = asker.ask_within(question(), Duration::from_millis(100)).await;
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
                ticker.emit(Wave::builder("tick.one").text("t").build().unwrap()).await.unwrap();
                emitted += 1;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    account(aether, emitted).await;
}

/// Emits waves of two sources on two channels each, in bursts.
async fn send(aether: &Aether, count: u64) {
    answered(aether).await;
    let emitters = ["first", "second"].map(|name| aether.emitter(name).unwrap());
    let mut pauses = tokio::time::interval(PAUSE);
    for number in 0..count {
        if number % 20 == 0 {
            pauses.tick().await;
        }
        let channel = if number & 2 == 0 { "tick.one" } else { "tick.two" };
        let wave = Wave::builder(channel).text("a wave of some length").build().unwrap();
        emitters[(number & 1) as usize].emit(wave).await.unwrap();
    }
    say("sent");
    told().await;
    account(aether, count).await;
}

/// Asks all the time until the order to stop, and prints how often, and how often it was not answered.
async fn ask(aether: &Aether) {
    answered(aether).await;
    let asker = aether.emitter("asker").unwrap();
    let (mut asked, mut failed) = (0_u64, 0_u64);
    let mut stop = tokio::spawn(told());
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => break,
            () = tokio::time::sleep(PAUSE) => {}
        }
        asked += 1;
        failed += u64::from(asker.ask_within(question(), LONG / 2).await.is_err());
    }
    say(format_args!("asked {asked} {failed}"));
    accounted(aether).await;
    aether.close().await.unwrap();
}
