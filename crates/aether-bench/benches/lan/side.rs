//! The processes of a measurement: this program again, in a role. They report by lines on stdout.

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use aether_conformance::{Cable, End};
use clap::{Args, ValueEnum};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Far longer than any step takes.
const LONG: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Receive,
    Send,
    Answer,
    Ask,
    Hear,
    Join,
    Drain,
    Flood,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contestant {
    /// Raw Zenoh, put and subscribe.
    Put,
    /// Raw Zenoh, query and queryable.
    Query,
    /// Aether without a secret.
    Plain,
    /// Aether with one.
    Sealed,
}

impl Contestant {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "Zenoh, put and subscribe",
            Self::Query => "Zenoh, query and queryable",
            Self::Plain => "Aether, not sealed (`lan:?insecure`)",
            Self::Sealed => "Aether, sealed",
        }
    }
}

/// The work of a process of its own.
#[derive(Debug, Clone, Args)]
pub(crate) struct Job {
    #[arg(long, hide = true)]
    pub(crate) role: Option<Role>,
    #[arg(long, hide = true, default_value = "sealed")]
    pub(crate) of: Contestant,
    /// The port to listen on.
    #[arg(long, hide = true)]
    pub(crate) listen: Option<u16>,
    /// The port to connect to. Without both, others are found by multicast.
    #[arg(long, hide = true)]
    pub(crate) connect: Option<u16>,
    /// How many messages, questions or seconds.
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) count: u64,
}

/// How two processes find each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'a> {
    /// The first listens on the port, the second connects to it.
    Loopback(u16),
    /// By multicast over a cable; the first is at its right end.
    Cable(&'a Cable),
}

impl Way<'_> {
    pub(crate) fn loopback() -> Outcome<Self> {
        // The port is free now.
        Ok(Self::Loopback(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()))
    }

    /// Starts the first process.
    pub(crate) fn first(self, role: Role, of: Contestant, count: u64) -> Outcome<Side> {
        self.start(role, of, count, End::Right, "--listen")
    }

    /// Starts the second process.
    pub(crate) fn second(self, role: Role, of: Contestant, count: u64) -> Outcome<Side> {
        self.start(role, of, count, End::Left, "--connect")
    }

    fn start(self, role: Role, of: Contestant, count: u64, end: End, port: &str) -> Outcome<Side> {
        let program = std::env::current_exe()?;
        let mut command = match self {
            Self::Loopback(number) => {
                let mut command = Command::new(program);
                command.args([port, &number.to_string()]);
                command
            }
            Self::Cable(cable) => cable.command(end, program),
        };
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        command.args(["--role", &name(role.to_possible_value()), "--of", &name(of.to_possible_value())]);
        Side::start(command.args(["--count", &count.to_string()]))
    }
}

/// A process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Side {
    child: Child,
    lines: Receiver<String>,
}

impl Side {
    fn start(command: &mut Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("a process without stdout")?;
        let (sender, lines) = channel();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Waits for a line that begins with this word, and returns the others of it.
    pub(crate) fn says<T: FromStr>(&self, word: &str) -> Outcome<Vec<T>> {
        loop {
            let line = self
                .lines
                .recv_timeout(LONG)
                .map_err(|error| format!("a side never said {word}: {error}"))?;
            if let Some(rest) = line.strip_prefix(word) {
                let numbers =
                    rest.split_whitespace().map(|text| text.parse().map_err(|_| format!("{line:?}")));
                return Ok(numbers.collect::<Result<_, _>>()?);
            }
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // One that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a process: reports a line.
pub(crate) fn say(line: impl Display) {
    println!("{line}");
}
