//! Finds a Node for the tests of the pages, and installs what they need from npm below the tools, pinned by their lock file.
//!
//! playwright-core stays at 1.61, the last version that runs with the Node 18 of Debian 12.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::steps::{check, succeeds};
use crate::workspace::Workspace;

/// The environment variable with the path of a Node, or `none`, for us and for the tests.
pub(crate) const ENV: &str = "AETHER_NODE";

/// The environment variable with the folder of the packages, for the tests.
pub(crate) const MODULES_ENV: &str = "AETHER_NODE_MODULES";

/// The value of the variable that switches Node off.
pub(crate) const NONE: &str = "none";

/// The folder of the tests and of the list of packages they need.
pub(crate) const FOLDER: &str = "crates/aether-cli/tests/suite/page";
const FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// A Node, and the folder of the packages.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) program: String,
    pub(crate) modules: String,
}

/// The Node of the variable, on `PATH`, or of Debian's package, with the packages.
///
/// Nothing else tests the pages, so it is an error if there is none; only `AETHER_NODE=none` skips these tests.
pub(crate) fn find_or_install(workspace: &Workspace) -> Result<Node> {
    let program = match env::var(ENV) {
        Ok(named) if named == NONE => return Ok(Node { program: NONE.to_owned(), modules: NONE.to_owned() }),
        Ok(named) => named,
        Err(_) => program().with_context(|| {
            format!("the tests of the pages need Node: install nodejs and npm as root, or set {ENV} to none to skip them")
        })?,
    };
    let folder = workspace.tools().join("page");
    install(&workspace.root().join(FOLDER), &folder).with_context(|| {
        format!("the tests of the pages need packages from npm; set {ENV} to none to skip these tests")
    })?;
    // Tests run in the folder of their package.
    let modules = std::path::absolute(folder.join("node_modules"))?;
    Ok(Node { program, modules: modules.display().to_string() })
}

fn program() -> Result<String> {
    if on_path("node").is_none() {
        apt::install("nodejs")?;
    }
    if on_path("npm").is_none() {
        apt::install("npm")?;
    }
    let node = on_path("node").context("Debian's package has no program named node")?;
    Ok(node.display().to_string())
}

/// Installs the packages of the tests of the pages, unless the packages of the same lock file are there.
fn install(tests: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for file in FILES {
        let (wanted, there) = (fs::read(tests.join(file))?, folder.join(file));
        if fs::read(&there).ok().as_ref() != Some(&wanted) {
            fs::write(there, wanted)?;
        }
    }
    install_in(folder)
}

/// Installs the packages of the lock file in this folder, unless they are there.
pub(crate) fn install_in(folder: &Path) -> Result<()> {
    // npm writes the second one last, and `npm ls` fails if the installed packages differ from the lock file.
    let is_there = || {
        let [wanted, installed] = ["package-lock.json", "node_modules/.package-lock.json"]
            .map(|file| fs::metadata(folder.join(file)).and_then(|file| file.modified()).ok());
        installed >= wanted && succeeds(Command::new("npm").args(["ls", "--silent"]).current_dir(folder))
    };
    if is_there() {
        return Ok(());
    }
    println!("installing the packages of {}", folder.display());
    let args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    check(Command::new("npm").args(args).current_dir(folder))?;
    if !is_there() {
        bail!("npm has not installed the packages of {}", folder.display());
    }
    Ok(())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}
