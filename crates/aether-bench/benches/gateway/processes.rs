//! The gateway and the clients as processes, and the time of the processors that they take.

use std::fs;
use std::process::Stdio;

use hdrhistogram::Histogram;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::{READ, SERVE};

/// Linux counts the time of processes in hundredths of a second.
const TICKS: f64 = 100.0;

/// Processor time of processes so far, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    user: u64,
    system: u64,
}

impl Usage {
    pub(crate) fn of(process: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // The name may have spaces; it ends with the last bracket.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        Self { user: fields[11].parse().unwrap(), system: fields[12].parse().unwrap() }
    }

    /// Processors in use on average, and those in the system.
    pub(crate) fn cores_since(self, before: Self, seconds: f64) -> (f64, f64) {
        let (user, system) = (self.user - before.user, self.system - before.system);
        ((user + system) as f64 / TICKS / seconds, system as f64 / TICKS / seconds)
    }
}

/// A process of this program that is killed with this.
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.env("AETHER_LOG", "warn");
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, lines }
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().expect("the process lives")
    }

    fn id(&self) -> u32 {
        self.child.id().unwrap()
    }
}

/// The gateway.
pub(crate) struct Gateway {
    process: Process,
    pub(crate) address: String,
}

impl Gateway {
    pub(crate) async fn start(medium: &str, more: &[&str]) -> Self {
        let args = [&[SERVE, "--listen", "127.0.0.1:0", "--medium", medium], more].concat();
        let mut process = Process::start(&args);
        loop {
            let line = process.line().await;
            if let Some(rest) = line.strip_prefix("gateway: http://") {
                let address = rest.split('/').next().unwrap().to_owned();
                return Self { process, address };
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// The observations of all clients.
pub(crate) struct Seen {
    /// From the emit of a wave to a client that looks.
    pub(crate) micros: Histogram<u64>,
    pub(crate) looking: u64,
    pub(crate) messages: u64,
    pub(crate) missed: u64,
}

/// The processes with the clients.
pub(crate) struct Readers {
    processes: Vec<Process>,
    looking: u64,
}

impl Readers {
    /// All clients are connected and subscribed then. Those that do not read are spread over the processes.
    pub(crate) async fn start(address: &str, processes: usize, clients: usize, silent: usize) -> Self {
        let part = |of: usize, at: usize| (of / processes + usize::from(at < of % processes)).to_string();
        let (mut all, mut looking) = (Vec::new(), 0);
        for at in 0..processes {
            let mut process = Process::start(&[READ, address, &part(clients, at), &part(silent, at)]);
            let ready = process.line().await;
            looking += ready.strip_prefix("ready ").unwrap().parse::<u64>().unwrap();
            all.push(process);
        }
        Self { processes: all, looking }
    }

    pub(crate) async fn say(&mut self, word: &str) {
        for process in &mut self.processes {
            process.stdin.write_all(format!("{word}\n").as_bytes()).await.unwrap();
            process.stdin.flush().await.unwrap();
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let all = self.processes.iter().map(|process| Usage::of(process.id()));
        all.fold(Usage::default(), |sum, one| Usage {
            user: sum.user + one.user,
            system: sum.system + one.system,
        })
    }

    pub(crate) async fn end(mut self) -> Seen {
        self.say("end").await;
        let micros = Histogram::new(3).unwrap();
        let mut seen = Seen { micros, looking: self.looking, messages: 0, missed: 0 };
        for process in &mut self.processes {
            loop {
                let line = process.line().await;
                let words: Vec<&str> = line.split(' ').collect();
                let number = |at: usize| words[at].parse::<u64>().unwrap();
                match words[0] {
                    "messages" => seen.messages += number(1),
                    "missed" => seen.missed += number(1),
                    "micros" => seen.micros.record_n(number(1), number(2)).unwrap(),
                    _ => break,
                }
            }
        }
        seen
    }
}
