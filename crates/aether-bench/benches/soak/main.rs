//! A soak test: a sender and a receiver run as separate processes under overload, over a NATS server that is killed
//! repeatedly. `cargo xtask soak` runs it.
//!
//! The soak passes if the ledgers of the two balance to the wave and their memory stays flat. Several optional parts
//! run alongside: observers of the same waves, a group that shares commands, a service whose circuit breaker opens,
//! and a forger of the framework's own messages. The program starts itself again in each of these roles and
//! communicates with them in lines of JSON over pipes.

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

/// As in the command line: glibc's allocator takes a lock when one thread frees what another allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The channel of the waves.
const CHANNEL: &str = "soak.events";

/// Overload a receiver over a NATS server that is killed periodically
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Args {
    /// Minutes for which the sender sends
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,

    /// The load, as a multiple of the receiver's capacity
    #[arg(long, value_name = "F", default_value_t = 5.0)]
    load: f64,

    /// The receiver's capacity in waves per second
    #[arg(long, value_name = "N", default_value_t = 4000.0)]
    capacity: f64,

    /// The interval between kills of the server, such as 30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    kill_every: Duration,

    /// How long the server stays down
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    down: Duration,

    /// Leave out a part; may be given several times
    #[arg(long, value_name = "PART")]
    without: Vec<Part>,

    /// Run as the receiver, the sender or another role: how the program starts itself
    #[arg(long, hide = true, requires = "medium")]
    role: Option<Role>,

    /// The medium for the role
    #[arg(long, hide = true)]
    medium: Option<String>,

    /// Passed by cargo
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

/// The parts that run alongside sender and receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Commands that the members of a group share
    Groups,
    /// An observer that takes all waves, and one that takes none
    Observers,
    /// Commands for a service whose circuit breaker opens repeatedly
    Circuits,
    /// Positions, times, announcements and echoes forged in the names of others
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

    /// The sender's rate in waves per second.
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
