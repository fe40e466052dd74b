//! The client for browsers and the example that uses it: builds, checks and tests them.
//!
//! The gateway serves the built client, also where there is no Node to build it. So its file is in the repository, and
//! this compares it with what the sources give.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::node;
use crate::steps::{Steps, check};
use crate::tools::Tools;
use crate::workspace::Workspace;

/// The folder of the package.
const CLIENT: &str = "clients/js";
/// The built client, and where the gateway has it.
const BUILT: &str = "clients/js/dist/aether-client.min.js";
const SERVED: &str = "aether-gateway/client/aether-client.min.js";
/// A page with Vite and React.
const EXAMPLE: &str = "examples/browser";
/// The variable with the program `aether`, for the tests.
const PROGRAM: &str = "AETHER_PROGRAM";

/// Runs all steps, with the programs that were built for the tests.
pub(crate) fn run(workspace: &Workspace, steps: &mut Steps, tools: &Tools) -> Result<()> {
    if !tools.has_pages() {
        return Ok(());
    }
    let with_programs = |folder: &Path, script: &str| {
        let mut command = npm(folder, &["run", script]);
        tools.name_in(&mut command);
        check(command.env(PROGRAM, workspace.target().join("debug/aether")))
    };
    let (client, example) = (workspace.root().join(CLIENT), workspace.root().join(EXAMPLE));
    steps.run("browser client: build", || {
        build(workspace)?;
        let (built, served) = (read(workspace, BUILT)?, read(workspace, SERVED)?);
        if built != served {
            bail!("{SERVED} is not what the sources of {CLIENT} give: `cargo xtask client` puts it there");
        }
        check(&mut npm(&client, &["run", "check"]))
    })?;
    steps.run("browser client: tests", || with_programs(&client, "test"))?;
    steps.run("browser example", || {
        // npm has copied the client into it, perhaps an earlier one.
        let copy = example.join("node_modules/@aether-bus");
        if copy.exists() {
            fs::remove_dir_all(copy)?;
        }
        node::install_in(&example)?;
        check(&mut npm(&example, &["run", "build"]))?;
        with_programs(&example, "test")
    })
}

/// The client in the package formats of others, which takes minutes to install.
pub(crate) fn run_long(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    steps.run("browser client: packaging", || {
        build(workspace)?;
        check(&mut npm(&workspace.root().join(CLIENT), &["run", "test:packaging"]))
    })
}

/// Builds the client and puts it where the gateway has it: `cargo xtask client`.
pub(crate) fn update(workspace: &Workspace) -> Result<()> {
    build(workspace)?;
    let served = workspace.root().join(SERVED);
    fs::create_dir_all(served.parent().unwrap_or(workspace.root()))?;
    fs::write(served, read(workspace, BUILT)?)?;
    println!("{SERVED} is what the sources of {CLIENT} give");
    Ok(())
}

fn build(workspace: &Workspace) -> Result<()> {
    let folder = workspace.root().join(CLIENT);
    node::install_in(&folder)?;
    check(&mut npm(&folder, &["run", "build"]))
}

fn read(workspace: &Workspace, path: &str) -> Result<Vec<u8>> {
    fs::read(workspace.root().join(path)).with_context(|| format!("cannot read {path}"))
}

fn npm(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(args).current_dir(folder);
    command
}
