//! Finds a Python for the tests of the Python package.

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::succeeds;

/// The variable with the path of a Python of version 3.10 or newer, or `none`.
pub(crate) const ENV: &str = "AETHER_PYTHON";
/// The value of the variable that switches Python off.
pub(crate) const NONE: &str = "none";

/// The Python of the variable, or the one on `PATH`.
///
/// Nothing else tests the package, so it is an error if there is none; only `AETHER_PYTHON=none` skips its tests.
pub(crate) fn find() -> Result<String> {
    let python = env::var(ENV).unwrap_or_else(|_| "python3".to_owned());
    if python != NONE && !succeeds(Command::new(&python).args(["-m", "venv", "--help"])) {
        bail!("the tests of the Python package need {python} with the module venv; {ENV}=none skips them");
    }
    Ok(python)
}
