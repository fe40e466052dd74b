//! Provides the sync engine whose protocol the gateway speaks: PyPI `aether-zta`, in a virtual environment below the tools.
//!
//! Tests run the same checks against it as against the gateway, and the benchmark of the gateway measures it in the same
//! run. Where it cannot be installed, both say that they skip it.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::{shown, succeeds};
use crate::workspace::Workspace;

/// The environment variable with the path of a python that has the sync engine, or `none`, for us and for the tests.
pub(crate) const ENV: &str = "AETHER_SYNC_ENGINE";

/// The value of the variable that switches the sync engine off.
const NONE: &str = "none";

/// The version whose protocol is spoken.
const PACKAGE: &str = "aether-zta==0.4.0";

/// The python of the variable or of the tools; makes the latter if it is missing. [`NONE`] if that fails, with the reason
/// on standard error.
pub(crate) fn find_or_install(workspace: &Workspace) -> String {
    if let Ok(named) = env::var(ENV) {
        return named;
    }
    let folder = workspace.tools().join("sync-engine");
    match install(&folder) {
        Ok(python) => python,
        Err(error) => {
            eprintln!(
                "no {PACKAGE}: {error:#}. Comparisons of the gateway with it are skipped. Set {ENV} to the path of a \
                 python that has it."
            );
            NONE.to_owned()
        }
    }
}

fn install(folder: &Path) -> Result<String> {
    let python = folder.join("bin/python");
    let has_it = || succeeds(Command::new(&python).args(["-c", "import aether_core"]));
    if !has_it() {
        println!("installing {PACKAGE} below {}", folder.display());
        fs::create_dir_all(folder)?;
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
        if !has_it() {
            bail!("its modules cannot be imported");
        }
    }
    // Tests run in the folder of their package.
    Ok(std::path::absolute(&python)?.display().to_string())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("`{}`: {}", shown(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
