//! `cargo xtask api`: the public API of each library as text, in `docs/api`, so that a change of it shows in a diff.
//!
//! Run on request, not by the tests: it compiles the workspace once more, for rustdoc.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::steps::shown;
use crate::tool;
use crate::workspace::Workspace;

const FOLDER: &str = "docs/api";

/// Installed when there is no `cargo public-api`. It has to match the rustdoc of the toolchain.
const VERSION: &str = "0.52.0";

/// Writes `docs/api/CRATE.txt` for each library that is published.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let path = tool::path_with_subcommand(workspace, "public-api", VERSION)?;
    let folder = workspace.root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    for name in workspace.libraries()? {
        println!("==> {FOLDER}/{name}.txt");
        fs::write(folder.join(format!("{name}.txt")), api(workspace, &name, &path)?)?;
    }
    Ok(())
}

/// The public items of one crate with all its features, one a line.
fn api(workspace: &Workspace, name: &str, path: &OsString) -> Result<Vec<u8>> {
    // Blanket, auto trait and derived implementations are left out: they would be most of the text.
    let mut command = workspace.cargo(["public-api", "--package", name, "--all-features", "-sss"]);
    command.arg("--target-dir").arg(workspace.tools().join("public-api-build"));
    // rustdoc's JSON output is unstable; this allows it on the stable toolchain, for this build only.
    command.env("RUSTC_BOOTSTRAP", "1").env("PATH", path).stderr(std::process::Stdio::inherit());
    let output = command.output().context("cannot start cargo public-api")?;
    if !output.status.success() {
        bail!("`{}`: {}", shown(&command), output.status);
    }
    Ok(output.stdout)
}
