//! Finds a Chromium for the tests that drive a real page. It is not installed: that needs root, and a few hundred megabytes.

use std::env;
use std::path::PathBuf;

/// The environment variable with the path of a Chromium, or `none`, for us and for the tests.
pub(crate) const ENV: &str = "AETHER_CHROMIUM";

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The Chromium of the variable or on `PATH`; `none` if there is none, with a word on standard error.
pub(crate) fn find() -> String {
    if let Ok(named) = env::var(ENV) {
        return named;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = NAMES.iter().flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)));
    match all.find(|program: &PathBuf| program.is_file()) {
        Some(program) => program.display().to_string(),
        None => {
            eprintln!("no Chromium on PATH. The tests that drive a page are skipped. Set {ENV} to its path.");
            "none".to_owned()
        }
    }
}
