//! `cargo xtask fuzz`: the fuzz targets in `fuzz`, on the stable toolchain.

use anyhow::{Context, Result, bail};

use crate::steps::check;
use crate::tool;
use crate::workspace::Workspace;

/// Installed when there is no `cargo fuzz`.
const VERSION: &str = "0.13.2";

/// Runs `target`, or each target, for `seconds`.
pub(crate) fn run(workspace: &Workspace, seconds: u32, target: Option<String>) -> Result<()> {
    if !workspace.root().join("fuzz/Cargo.toml").is_file() {
        bail!("there is no folder fuzz");
    }
    let path = tool::path_with_subcommand(workspace, "fuzz", VERSION)?;
    let fuzz = |args: &[&str]| {
        let mut command = workspace.cargo(["fuzz"]);
        command.args(args).current_dir(workspace.root()).env("PATH", &path);
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
