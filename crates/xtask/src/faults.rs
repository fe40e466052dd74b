//! `cargo xtask faults`: the fault tests of durable logs, handlers and outboxes for longer than the test command runs them.
//!
//! They are the same tests with more rounds, and they try every byte. Real processes are killed, stopped and continued.
//! A full disk, a read-only disk and a disk whose power is cut are file systems of their own, which only root can make.

use anyhow::Result;

use crate::nats_server;
use crate::steps::{Steps, check};
use crate::workspace::Workspace;

/// Tells the tests how many rounds to make.
const ROUNDS: [&str; 3] = ["AETHER_FAULTS_ROUNDS", "AETHER_OUTBOX_KILLS", "AETHER_JOB_KILLS"];

/// The options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct FaultsArgs {
    /// How often a process is killed, or stopped and continued.
    #[arg(long, default_value_t = 200)]
    pub(crate) rounds: u32,
}

/// What is run: a name for people, the package, its tests, and words of their names.
const SUITES: [(&str, &str, &[&str], &[&str]); 5] = [
    (
        "machines that fail: sync, a full disk, clocks",
        "aether-bus-log",
        &["--lib"],
        &["faults::", "attempts::"],
    ),
    (
        "processes that are killed, stopped, or killed by a wave, and power cuts",
        "aether-bus-log",
        &["--test", "suite"],
        &["bus::faults::", "bus::failing::"],
    ),
    (
        "changed bytes, cut files, full and read-only disks",
        "aether-bus-log",
        &["--test", "suite"],
        &["store::damage::", "store::failing::"],
    ),
    (
        "durable handlers whose process and servers are killed and stopped",
        "aether-bus-service",
        &["--test", "suite"],
        &["service::durable_killing::"],
    ),
    ("an outbox whose process is killed", "aether-bus-outbox", &["--test", "outbox"], &["killing::"]),
];

pub(crate) fn run(workspace: &Workspace, args: &FaultsArgs) -> Result<()> {
    let mut steps = Steps::default();
    let server = steps.run("tools", || nats_server::find_or_install(workspace))?.path;
    for (name, package, tests, words) in SUITES {
        steps.run(name, || {
            // As users run it, and so at full rate.
            let mut command = workspace.cargo(["test", "--locked", "--release", "-p", package]);
            command.args(tests).arg("--").args(words).args(["--nocapture", "--test-threads=1"]);
            let rounds = ROUNDS.map(|name| (name, args.rounds.to_string()));
            check(command.envs(rounds).env(nats_server::ENV, &server))
        })?;
    }
    print!("{}", steps.table());
    Ok(())
}
