//! Finds mdbook, which builds the book, or compiles it below the tools.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::{check, succeeds};
use crate::workspace::Workspace;

/// The environment variable with the path of mdbook, or `none`.
pub(crate) const ENV: &str = "AETHER_MDBOOK";

/// The version that is installed where there is none.
const VERSION: &str = "0.5.4";

/// The mdbook of the variable, of the tools, or on `PATH`; compiles it if there is none.
///
/// Without its server, its search and optimisation, which takes 40 s on two cores.
pub(crate) fn find_or_install(workspace: &Workspace) -> Result<String> {
    if let Ok(named) = env::var(ENV) {
        return Ok(named);
    }
    let root = workspace.tools().join(format!("mdbook-{VERSION}"));
    let program = root.join("bin").join(format!("mdbook{}", env::consts::EXE_SUFFIX)).display().to_string();
    for found in [&program, "mdbook"] {
        if succeeds(Command::new(found).arg("--version")) {
            return Ok(found.to_owned());
        }
    }
    let mut install = workspace.cargo(["install", "mdbook", "--locked", "--version", VERSION]);
    check(install.args(["--no-default-features", "--debug", "--root"]).arg(&root)).with_context(|| {
        format!("mdbook cannot be installed: set {ENV} to its path, or to none to skip the book")
    })?;
    Ok(program)
}
