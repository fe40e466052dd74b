//! `cargo xtask fuzz`: the fuzz targets in `aether-core/fuzz`, on the stable toolchain.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::{check, succeeds};
use crate::workspace::Workspace;

/// Installed when there is no `cargo fuzz`.
const VERSION: &str = "0.13.2";

/// Runs `target`, or each target there is, for `seconds`.
pub(crate) fn run(workspace: &Workspace, seconds: u32, target: Option<String>) -> Result<()> {
    if !workspace.root().join("aether-core/fuzz/Cargo.toml").is_file() {
        bail!("there is no aether-core/fuzz");
    }
    let path = path_with_cargo_fuzz(workspace)?;
    let fuzz = |args: &[&str]| {
        let mut command = workspace.cargo(["fuzz"]);
        command.args(args).current_dir(workspace.root().join("aether-core")).env("PATH", &path);
        // The sanitizer needs an unstable compiler flag; this allows it on stable, for this build only.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    };
    let targets = match target {
        Some(target) => vec![target],
        None => {
            let output = fuzz(&["list"]).output().context("cannot start cargo fuzz list")?;
            if !output.status.success() {
                bail!("cargo fuzz list: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
    };
    let bound = format!("-max_total_time={seconds}");
    for target in &targets {
        println!("==> fuzz {target}, {seconds} s");
        check(&mut fuzz(&["run", target, "--", &bound]))?;
    }
    Ok(())
}

/// A `PATH` on which cargo finds its `fuzz` subcommand, installed under the build folder if need be.
fn path_with_cargo_fuzz(workspace: &Workspace) -> Result<OsString> {
    let root = workspace.tools().join(format!("cargo-fuzz-{VERSION}"));
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(root.join("bin")).chain(std::env::split_paths(&old)))?;
    if !succeeds(workspace.cargo(["fuzz", "--version"]).env("PATH", &path)) {
        let mut install: Command =
            workspace.cargo(["install", "cargo-fuzz", "--locked", "--version", VERSION]);
        check(install.arg("--root").arg(&root)).context("cargo-fuzz is missing and cannot be installed")?;
    }
    Ok(path)
}
