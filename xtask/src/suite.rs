//! `cargo xtask test`: everything that CI runs, cheapest checks first.
//!
//! It uses one profile (dev) and the default features, so that little is compiled twice.

use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::{Steps, check, succeeds};
use crate::workspace::Workspace;
use crate::{examples, modules, nats_server, promtool};

/// Runs all steps. `fast` skips the documentation build and the examples.
pub(crate) fn run(workspace: &Workspace, fast: bool) -> Result<()> {
    let mut steps = Steps::default();
    let (server, promtool) = steps.run("tools", || {
        component(workspace, "rustfmt", "fmt")?;
        component(workspace, "clippy", "clippy")?;
        let server = nats_server::find_or_install(workspace)?;
        println!("nats-server: {server}");
        let promtool = promtool::find_or_install(workspace)?;
        println!("promtool: {promtool}");
        Ok((server.path, promtool.path))
    })?;
    let cargo = |args: &str| {
        let mut command = workspace.cargo(args.split_whitespace());
        command.env(nats_server::ENV, &server).env(promtool::ENV, &promtool);
        command
    };

    steps.run("format", || check(&mut cargo("fmt --all --check")))?;
    steps.run("modules", || modules::check(workspace))?;
    steps.run("clippy", || check(&mut cargo("clippy --workspace --all-targets --locked -- -D warnings")))?;
    for features in ["", "nats", "link", "physics", "hopping", "conformance"] {
        steps.run(&format!("aether-core with [{features}]"), || {
            check(&mut cargo(&format!(
                "clippy -p aether-core --locked --no-default-features --features={features} -- -D warnings"
            )))
        })?;
    }
    // The workspace always has the `bench` feature on, so this build would rot unnoticed.
    steps.run("aether-cli without bench", || {
        check(&mut cargo("clippy -p aether-cli --locked --no-default-features -- -D warnings"))
    })?;
    steps.run("packages", || packages(workspace))?;
    if !fast {
        steps.run("documentation", || {
            check(cargo("doc --workspace --no-deps --locked").env("RUSTDOCFLAGS", "-D warnings"))
        })?;
    }
    if succeeds(&mut cargo("nextest --version")) {
        steps.run("tests", || check(&mut cargo("nextest run --workspace --locked --no-fail-fast")))?;
    } else {
        steps.run("tests (without nextest)", || {
            check(&mut cargo("test --workspace --lib --bins --tests --locked"))
        })?;
    }
    steps.run("doc tests", || check(&mut cargo("test --workspace --doc --locked")))?;
    if !fast {
        for package in ["aether-examples", "aether-core"] {
            examples::run(workspace, &mut steps, package, &server)?;
        }
    }
    print!("{}", steps.table());
    Ok(())
}

/// Packages each crate that is published. The packages are not compiled: that would build every dependency again, which
/// takes longer than all other steps together.
fn packages(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo(["package", "--locked", "--no-verify", "--allow-dirty", "--quiet"]);
    for name in workspace.published()? {
        command.args(["--package", &name]);
    }
    check(&mut command)
}

/// Installs a component of the Rust toolchain if it is missing.
fn component(workspace: &Workspace, component: &str, subcommand: &str) -> Result<()> {
    if succeeds(&mut workspace.cargo([subcommand, "--version"])) {
        return Ok(());
    }
    check(Command::new("rustup").args(["component", "add", component])).with_context(|| {
        format!("cargo {subcommand} is missing: install {component} for this Rust toolchain")
    })
}
