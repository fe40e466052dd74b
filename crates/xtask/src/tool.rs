//! Cargo subcommands that are installed on demand, below the build folder.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::steps::{check, succeeds};
use crate::workspace::Workspace;

/// A `PATH` on which cargo finds the subcommand, which is installed first if it is missing.
pub(crate) fn path_with_subcommand(
    workspace: &Workspace,
    subcommand: &str,
    version: &str,
) -> Result<OsString> {
    let package = format!("cargo-{subcommand}");
    let root = workspace.tools().join(format!("{package}-{version}"));
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(root.join("bin")).chain(std::env::split_paths(&old)))?;
    if !succeeds(workspace.cargo([subcommand, "--version"]).env("PATH", &path)) {
        let mut install = workspace.cargo(["install", &package, "--locked", "--version", version]);
        check(install.arg("--root").arg(&root))
            .with_context(|| format!("{package} is missing and cannot be installed"))?;
    }
    Ok(path)
}
