//! Finds the programs of a Postgres server for tests. If they are missing, apt-get installs them, which only root may do.

use std::env;
use std::fs;

use anyhow::{Context, Result};

use crate::apt;

/// The environment variable with the folder of `initdb` and `postgres`, or `none`, for us and for the tests.
pub(crate) const ENV: &str = "AETHER_POSTGRES";

/// The folder of the variable, or of Debian's package.
///
/// Nothing else tests the outbox in Postgres, so it is an error if there is none; only `AETHER_POSTGRES=none` skips these
/// tests.
pub(crate) fn find_or_install() -> Result<String> {
    match (env::var(ENV), installed()) {
        (Ok(named), _) | (Err(_), Some(named)) => Ok(named),
        (Err(_), None) => install().with_context(|| {
            format!(
                "the tests of the outbox need Postgres: install postgresql as root, set {ENV} to the folder of its programs, \
                 or to none to skip them"
            )
        }),
    }
}

/// The newest version, as Debian has it.
fn installed() -> Option<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let newest = folders.filter(|folder| folder.join("postgres").is_file()).max();
    newest.map(|folder| folder.display().to_string())
}

fn install() -> Result<String> {
    apt::install("postgresql")?;
    installed().context("Debian's package has no program of a known name")
}
