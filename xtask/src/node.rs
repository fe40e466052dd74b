//! Finds a Node for the tests of the pages, and installs what they need from npm, pinned by their lock file.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt;
use crate::steps::{check, succeeds};
use crate::workspace::Workspace;

/// The environment variable with the path of a Node, or `none`, for us and for the tests.
pub(crate) const ENV: &str = "AETHER_NODE";

/// The folder of the tests.
const FOLDER: &str = "aether-cli/tests/page";

/// The Node of the variable, on `PATH`, or of Debian's package; `none` if it or its packages cannot be had, with a word on
/// standard error.
pub(crate) fn find_or_install(workspace: &Workspace) -> String {
    find(workspace).unwrap_or_else(|error| {
        eprintln!(
            "no Node: {error:#}. The tests of the pages are skipped. Install nodejs and npm as root, or set {ENV} to the \
             path of a Node."
        );
        "none".to_owned()
    })
}

fn find(workspace: &Workspace) -> Result<String> {
    let node = match env::var(ENV) {
        Ok(named) if named == "none" => return Ok(named),
        Ok(named) => named,
        Err(_) => match on_path() {
            Some(node) => node,
            None => {
                apt::install("nodejs")?;
                apt::install("npm")?;
                on_path().context("Debian's package has no program named node")?
            }
        },
    };
    let folder = workspace.root().join(FOLDER);
    // npm writes this file last, and `npm ls` fails if what is installed is not what the lock file says.
    let is_there = folder.join("node_modules/.package-lock.json").is_file()
        && succeeds(Command::new("npm").args(["ls", "--silent"]).current_dir(&folder));
    if !is_there {
        let args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        check(Command::new("npm").args(args).current_dir(&folder))?;
    }
    Ok(node)
}

fn on_path() -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = env::split_paths(&path).map(|folder| folder.join("node"));
    all.find(|program: &PathBuf| program.is_file()).map(|program| program.display().to_string())
}
