//! valgrind, which counts the instructions of `cargo xtask bench instructions`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::{check, succeeds};

/// Finds valgrind on `PATH`. If it is missing, installs it with apt-get, which only root may do.
pub(crate) fn find_or_install() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends", "valgrind"]);
    check(&mut install).context("valgrind is missing, and apt-get cannot install it: install it as root")?;
    if !is_there() {
        bail!("valgrind was installed, but does not run");
    }
    Ok(())
}

fn is_there() -> bool {
    succeeds(Command::new("valgrind").arg("--version"))
}
