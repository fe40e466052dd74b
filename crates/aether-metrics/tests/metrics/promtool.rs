//! Runs promtool, the tool of Prometheus. The tests of the gateway use this file as well.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The path of promtool.
pub(crate) fn promtool() -> PathBuf {
    find().unwrap_or_else(|| {
        panic!(
            "no promtool found: run `cargo xtask tools`, or set AETHER_PROMTOOL to the path of one (it comes with Prometheus)"
        )
    })
}

/// Fails with the output of promtool.
pub(crate) fn check(text: &str) {
    let promtool = promtool();
    let mut child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", promtool.display()));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {}\n{said}\n{text}", output.status);
}

/// Finds promtool: the one in the environment variable, else the one of `cargo xtask tools`, else the one on `PATH`.
fn find() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(named) = variable("AETHER_PROMTOOL") {
        return Some(named.into());
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = variable("CARGO_TARGET_DIR").map(PathBuf::from);
    let targets = target.into_iter().chain(package.ancestors().map(|folder| folder.join("target")));
    let installed = targets.map(|target| target.join("tools/promtool/promtool"));
    let path = variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("promtool")).collect::<Vec<_>>();
    installed.chain(on_path).find(|program| program.is_file())
}
