//! Finds a Chromium for the tests that drive a real page. If it is missing, apt-get installs it, which only root may do.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::apt;

/// The environment variable with the path of a Chromium, or `none`, for us and for the tests.
pub(crate) const ENV: &str = "AETHER_CHROMIUM";

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The Chromium of the variable, on `PATH`, or of Debian's package.
///
/// Nothing else tests the pages, so it is an error if there is none; only `AETHER_CHROMIUM=none` skips these tests.
pub(crate) fn find_or_install() -> Result<String> {
    match (env::var(ENV), on_path()) {
        (Ok(named), _) | (Err(_), Some(named)) => Ok(named),
        (Err(_), None) => install().with_context(|| {
            format!(
                "the tests of the pages need a browser: install chromium as root, set {ENV} to its path, or to none to \
                 skip them"
            )
        }),
    }
}

fn on_path() -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = NAMES.iter().flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)));
    all.find(|program: &PathBuf| program.is_file()).map(|program| program.display().to_string())
}

fn install() -> Result<String> {
    apt::install("chromium")?;
    on_path().context("Debian's package has no program of a known name")
}
