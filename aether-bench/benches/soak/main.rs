//! A soak: a sender and a receiver, each a process of its own, under overload over a NATS server that is killed again
//! and again. `cargo xtask soak` runs it.
//!
//! It passes if the accounts of the two add up to the wave and their memory stays flat. The program starts itself
//! again as the sender and as the receiver, and talks to them by lines of JSON over pipes.

mod driver;
mod memory;
mod receiver;
mod sender;

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

    /// Be the receiver or the sender: what the program starts itself as
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
}

impl Args {
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
