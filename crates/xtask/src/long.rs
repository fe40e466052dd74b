//! `cargo xtask test --long`: tests that take minutes, which CI therefore leaves out.

use anyhow::Result;

use crate::clients;
use crate::faults::{self, FaultsArgs};
use crate::steps::{Steps, check};
use crate::tools::Tools;
use crate::versions::{self, VersionsArgs};
use crate::workspace::{FEATURES, Workspace};

/// What is run, in the words of the closing line of `cargo xtask test`.
pub(crate) const WHAT: &str = "each feature of the facade alone, each example with the features of its own package, \
                               a new service compiled outside of this workspace, attacks, outages and rotations in full, \
                               the browser client in four bundlers, \
                               200 kills of a log, the last release beside this version";

/// Each of them once more than the tests of the workspace, which always have all of them on.
const OF_THE_FACADE: [&str; 9] =
    ["nats", "lan", "seal", "rules", "schema", "physics", "hopping", "field", "log"];

/// How much the tests do that usually do little.
const IN_FULL: [(&str, &str); 5] = [
    ("AETHER_ATTACKS", "20"),
    ("AETHER_ROTATIONS", "60"),
    ("AETHER_ROTATION_RATE", "5000"),
    ("AETHER_LAN_OUTAGE", "60"),
    ("AETHER_LAN_PACKETS", "1000000"),
];

pub(crate) fn run(workspace: &Workspace, steps: &mut Steps, tools: &Tools) -> Result<()> {
    for features in OF_THE_FACADE {
        steps.run(&format!("aether with [{features}]"), || {
            let mut clippy =
                workspace.cargo(["clippy", "-p", "aether-bus", "--locked", "--no-default-features"]);
            check(clippy.args(["--features", features, "--", "-D", "warnings"]))
        })?;
    }
    steps.run("examples with their own features", || {
        check(&mut workspace.cargo(["check", "-p", "aether-examples", "--examples", "--locked"]))
    })?;
    steps.run("tests in full", || {
        let mut tests =
            tools.cargo(workspace, ["nextest", "run", "--workspace", "--locked", "--profile", "long"]);
        check(tests.args(["--features", FEATURES, "--no-fail-fast"]).envs(IN_FULL))
    })?;
    clients::run_long(workspace, steps)?;
    print!("{}", steps.table());
    faults::run(workspace, &FaultsArgs { rounds: 200 })?;
    versions::run(workspace, &VersionsArgs::default())
}
