//! The Python package: builds its wheel, installs it into a fresh environment, and checks and tests it there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::steps::{Steps, check};
use crate::tools::Tools;
use crate::workspace::Workspace;

/// The folder of the package, and the programs that its chapter in the book shows.
const PACKAGE: &str = "clients/python";
const EXAMPLES: &str = "examples/python";
/// All that builds and tests it, with versions.
const REQUIREMENTS: &str = "clients/python/requirements.txt";
/// The variable with the program `aether`, for the tests.
const PROGRAM: &str = "AETHER_PROGRAM";
/// The tests mostly wait. Some of them look at times, so the machine must not be full.
const AT_ONCE: &str = "4";

/// Runs all steps, with the programs that were built for the tests.
pub(crate) fn run(workspace: &Workspace, steps: &mut Steps, tools: &Tools) -> Result<()> {
    let Some(python) = tools.python() else { return Ok(()) };
    let root = workspace.root();
    let folder = std::path::absolute(workspace.target().join("python"))?;
    let (tooling, fresh) = (folder.join("tools"), folder.join("fresh"));
    let tool = |name: &str| Command::new(tooling.join("bin").join(name));
    steps.run("Python package: build", || {
        install_tools(root, python, &tooling)?;
        let wheel = build(root, tool("maturin"), &folder)?;
        // Nothing of an earlier wheel may be in it.
        check(Command::new(python).args(["-m", "venv", "--clear", "--without-pip"]).arg(&fresh))?;
        let mut pip = tool("python");
        pip.args(["-m", "pip", "--python"]).arg(fresh.join("bin/python"));
        check(
            pip.args(["install", "--quiet", "--no-deps", "--requirement", REQUIREMENTS])
                .arg(wheel)
                .current_dir(root),
        )
    })?;
    steps.run("Python package: checks", || {
        for args in [&["check", "--quiet"][..], &["format", "--check", "--quiet"]] {
            let mut ruff = tool("ruff");
            ruff.args(args).args(["--config", "pyproject.toml", "."]).arg(root.join(EXAMPLES));
            check(ruff.current_dir(root.join(PACKAGE)))?;
        }
        let mut mypy = tool("mypy");
        mypy.arg("--cache-dir")
            .arg(folder.join("mypy"))
            .arg("--python-executable")
            .arg(fresh.join("bin/python"));
        check(mypy.current_dir(root.join(PACKAGE)))?;
        // The types of the extension are written by hand.
        let mut stubs = Command::new(fresh.join("bin/python"));
        check(stubs.args(["-m", "mypy.stubtest", "aether._native"]).current_dir(&folder))
    })?;
    steps.run("Python package: tests", || {
        let mut pytest = Command::new(fresh.join("bin/python"));
        pytest.args([
            "-X",
            "dev",
            "-m",
            "pytest",
            "--quiet",
            "--numprocesses",
            AT_ONCE,
            "-p",
            "no:cacheprovider",
        ]);
        tools.name_in(&mut pytest);
        pytest.env("PYTHONASYNCIODEBUG", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        let program = std::path::absolute(workspace.target().join("debug/aether"))?;
        check(pytest.env(PROGRAM, program).current_dir(root.join(PACKAGE)))
    })
}

/// Makes an environment with what builds and checks, unless it has all of it.
fn install_tools(root: &Path, python: &str, folder: &Path) -> Result<()> {
    let (wanted, installed) = (root.join(REQUIREMENTS), folder.join("requirements.txt"));
    let wanted = fs::read(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing {REQUIREMENTS} below {}", folder.display());
    check(Command::new(python).args(["-m", "venv", "--clear"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--requirement",
    ]);
    check(pip.arg(REQUIREMENTS).current_dir(root))?;
    // Written last, so that an installation that broke off is made again.
    Ok(fs::write(installed, wanted)?)
}

/// Builds the wheel in the profile of the tests, and returns its path.
fn build(root: &Path, mut maturin: Command, folder: &Path) -> Result<PathBuf> {
    let wheels = folder.join("wheels");
    if wheels.exists() {
        fs::remove_dir_all(&wheels)?;
    }
    maturin.args(["build", "--quiet", "--locked", "--profile", "dev", "--out"]).arg(&wheels);
    check(maturin.current_dir(root.join(PACKAGE)))?;
    let wheel = fs::read_dir(&wheels)?.next().context("maturin has built no wheel")?;
    Ok(wheel?.path())
}
