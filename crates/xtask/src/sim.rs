//! `cargo xtask sim`: the suites on the simulator with more seeds than the test command gives them.

use anyhow::Result;

use crate::steps::check;
use crate::workspace::Workspace;

/// The options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct SimArgs {
    /// The number of seeds of each suite, from 0 on.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Runs only the tests whose names contain this.
    name: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &SimArgs) -> Result<()> {
    // Each test takes all processors by itself.
    let mut command =
        workspace.cargo(["test", "--locked", "--release", "-p", "aether-bus-testing", "--test", "sim", "--"]);
    command.args(&args.name).args(["--test-threads=1"]);
    check(command.env("AETHER_TEST_SEEDS", args.seeds.to_string()))
}
