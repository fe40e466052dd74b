//! Debian packages, which only root may install.

use std::process::Command;

use anyhow::Result;

use crate::steps::check;

/// Installs a package. A new machine has no package lists, so they are fetched if it cannot be found.
pub(crate) fn install(package: &str) -> Result<()> {
    println!("installing Debian's package {package}");
    let apt = |args: &[&str]| check(Command::new("apt-get").arg("--quiet").args(args));
    let install = || apt(&["install", "--yes", "--no-install-recommends", package]);
    if install().is_err() {
        apt(&["update"])?;
        install()?;
    }
    Ok(())
}
