//! A soak: a sender and a receiver, each a process of its own, under overload over a NATS server that is killed again
//! and again. `cargo xtask soak` runs it.
//!
//! It passes if the accounts of the two add up to the wave and their memory stays flat, with these beside them, each of
//! which can be left out: observers of the same waves, a group that shares commands, a service whose circuit breaker opens,
//! and somebody who forges the framework's own messages. The program starts itself again as each of them, and talks to
//! them by lines of JSON over pipes.

mod boss;
mod driver;
mod forger;
mod jobs;
mod memory;
mod process;
mod receiver;
mod sender;
mod verdict;
mod workers;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// As in the command line: glibc's allocator takes a lock where one thread frees what another allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Where the waves go.
const CHANNEL: &str = "soak.events";

/// A sender and a receiver under overload, over a NATS server that is killed now and then
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Args {
    /// How long the sender sends
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,

    /// So many times what the receiver can take
    #[arg(long, value_name = "F", default_value_t = 5.0)]
    load: f64,

    /// How many waves a second the receiver can take
    #[arg(long, value_name = "N", default_value_t = 4000.0)]
    capacity: f64,

    /// How often the server is killed, such as 30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    kill_every: Duration,

    /// How long it stays away
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    down: Duration,

    /// Leave out a part; may be given several times
    #[arg(long, value_name = "PART")]
    without: Vec<Part>,

    /// Be the receiver, the sender or another one: what the program starts itself as
    #[arg(long, hide = true, requires = "medium")]
    role: Option<Role>,

    /// Of the role
    #[arg(long, hide = true)]
    medium: Option<String>,

    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    Sender,
    Receiver,
    Observer,
    Boss,
    Workers,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
            Self::Observer => "observer",
            Self::Boss => "boss",
            Self::Workers => "workers",
        }
    }
}

/// What runs beside sender and receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Commands that the members of a group share
    Groups,
    /// An observer that takes all waves, and one that takes none
    Observers,
    /// Commands for a service whose circuit breaker opens again and again
    Circuits,
    /// Positions, times, announcements and echoes in the names of others
    Forged,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Observers => "observers",
            Self::Circuits => "circuits",
            Self::Forged => "forged",
        }
    }
}

impl Args {
    fn has(&self, part: Part) -> bool {
        !self.without.contains(&part)
    }

    /// How many waves a second the sender emits.
    fn rate(&self) -> f64 {
        self.load * self.capacity
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let run = async {
        match (args.role, &args.medium) {
            (Some(Role::Sender), Some(medium)) => sender::run(medium, args.rate()).await,
            (Some(Role::Receiver), Some(medium)) => receiver::run(medium, args.capacity).await,
            (Some(Role::Observer), Some(medium)) => receiver::observe(medium).await,
            (Some(Role::Boss), Some(medium)) => boss::run(medium, &args).await,
            (Some(Role::Workers), Some(medium)) => workers::run(medium, &args).await,
            _ => driver::run(&args).await,
        }
    };
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let role = args.role.map_or(String::new(), |role| format!("{role:?}: "));
            eprintln!("error: {role}{error}");
            ExitCode::FAILURE
        }
    }
}
