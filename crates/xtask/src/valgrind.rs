//! valgrind, which counts the instructions of `cargo xtask bench instructions`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::steps::succeeds;

/// Finds valgrind on `PATH`. If it is missing, installs it with apt-get, which only root may do.
pub(crate) fn find_or_install() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    apt::install("valgrind")
        .context("valgrind is missing, and apt-get cannot install it: install it as root")?;
    if !is_there() {
        bail!("valgrind was installed, but does not run");
    }
    Ok(())
}

fn is_there() -> bool {
    succeeds(Command::new("valgrind").arg("--version"))
}
