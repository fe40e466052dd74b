//! `cargo xtask test`: everything that CI runs, cheapest checks first.
//!
//! There is one set of features and one profile. Clippy and the documentation share what is checked; tests, doc tests and
//! examples share what is built.

use std::process::Command;

use anyhow::{Context, Result};

use crate::english::EnglishArgs;
use crate::steps::{Steps, check, succeeds};
use crate::timings::Timings;
use crate::tools::Tools;
use crate::workspace::{FEATURES, Workspace};
use crate::{apt, book, clients, english, examples, modules, python_package, release};

/// Features that only benchmarks need: they are checked and not built.
const FEATURES_OF_BENCHMARKS: &str = "aether-bus-bench/lan,aether-bus-bench/peers";

/// Packages with fewer features than the workspace always has on, which would rot unnoticed: the bus alone, the detectors
/// without a network, a command without benchmarks (as in the image), and a field without a bus.
const LEAN: [&str; 4] = ["aether-bus", "aether-bus-service", "aether-bus-cli", "aether-bus-field"];

/// The variable that declares that this machine cannot make network namespaces, for us and for the tests.
const NO_NAMESPACES: &str = "AETHER_NO_NAMESPACES";

/// Which steps to leave out or to add.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct TestArgs {
    /// Skip the documentation build and the examples.
    #[arg(long)]
    fast: bool,
    /// Print what was compiled more than once and the slowest tests, too.
    #[arg(long)]
    timings: bool,
    /// Run what takes minutes instead: see CONTRIBUTING.md.
    #[arg(long, conflicts_with_all = ["fast", "timings"])]
    long: bool,
}

/// Runs all steps.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    let mut steps = Steps::default();
    let tools = steps.run("tools", || {
        component(workspace, "rustfmt", "fmt")?;
        component(workspace, "clippy", "clippy")?;
        nftables()?;
        let tools = Tools::find_or_install(workspace)?;
        println!("{tools}");
        Ok(tools)
    })?;
    if args.long {
        return crate::long::run(workspace, &mut steps, &tools);
    }
    let checked = format!("{FEATURES},{FEATURES_OF_BENCHMARKS}");
    let mut timings = Timings::new(workspace, args.timings);

    steps.run("format", || check(&mut workspace.cargo(["fmt", "--all", "--check"])))?;
    steps.run("modules", || modules::check(workspace))?;
    steps.run("English", || english::run(workspace, &EnglishArgs::default()))?;
    steps.run("links of the documents", || book::check(workspace))?;
    steps.run("packages", || {
        release::package(workspace, &["--no-verify", "--allow-dirty", "--exclude-lockfile"])
    })?;
    steps.run("clippy", || {
        let mut clippy = workspace.cargo(["clippy", "--workspace", "--all-targets", "--locked"]);
        clippy.args(["--features", &checked]).args(timings.flag());
        check(clippy.args(["--", "-D", "warnings"]))?;
        timings.compiled("clippy")
    })?;
    for package in LEAN {
        steps.run(&format!("clippy of {package} without features"), || {
            let mut clippy = workspace.cargo(["clippy", "-p", package, "--locked", "--no-default-features"]);
            clippy.args(timings.flag());
            check(clippy.args(["--", "-D", "warnings"]))?;
            timings.compiled(package)
        })?;
    }
    if !args.fast {
        if let Some(mdbook) = tools.mdbook() {
            steps.run("book", || book::build(workspace, mdbook))?;
        }
        steps.run("documentation", || {
            let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps", "--locked", "--features"]);
            check(doc.arg(&checked).env("RUSTDOCFLAGS", "-D warnings"))
        })?;
    }
    let nextest = |last: &[&str]| {
        let mut command = tools.cargo(workspace, ["nextest", "run", "--workspace", "--locked", "--features"]);
        command.arg(FEATURES).args(last);
        command
    };
    steps.run("tests: build", || {
        check(nextest(&["--no-run"]).args(timings.flag()))?;
        timings.compiled("tests")
    })?;
    // Most tests wait, for a server or for an outage to end, so that twice as many as there are processors keep them busy.
    let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    steps.run("tests", || check(nextest(&["--no-fail-fast", "--test-threads"]).arg(at_once.to_string())))?;
    steps.run("memory orderings", || orderings(workspace))?;
    clients::run(workspace, &mut steps, &tools)?;
    python_package::run(workspace, &mut steps, &tools)?;
    steps.run("doc tests", || {
        let args = ["test", "--workspace", "--doc", "--locked", "--features", FEATURES];
        check(&mut tools.cargo(workspace, args))
    })?;
    if !args.fast {
        examples::run(workspace, &mut steps, &tools, FEATURES)?;
    }
    print!("{}{}", steps.table(), timings.report()?);
    for (what, is_skipped) in tools.skipped() {
        if is_skipped {
            println!("skipped: {what}");
        }
    }
    if are_namespaces_excused() {
        println!("skipped: tests between network namespaces");
    }
    println!("not run: {} (cargo xtask test --long)", crate::long::WHAT);
    Ok(())
}

fn are_namespaces_excused() -> bool {
    std::env::var(NO_NAMESPACES).is_ok_and(|excuse| excuse == "1")
}

/// Runs the tests of aether-core in each order that the memory model allows. For cargo the flag changes every crate, so
/// what is built has a folder of its own.
fn orderings(workspace: &Workspace) -> Result<()> {
    let mut test = workspace.cargo(["test", "-p", "aether-bus-core", "--lib", "--locked", "--target-dir"]);
    test.arg(workspace.target().join("loom")).arg("loom::").env("RUSTFLAGS", "--cfg aether_loom");
    check(&mut test)
}

/// Installs the command that loses packets between network namespaces, which only root may do. Their tests need root, too.
fn nftables() -> Result<()> {
    if !cfg!(target_os = "linux")
        || are_namespaces_excused()
        || succeeds(Command::new("nft").arg("--version"))
    {
        return Ok(());
    }
    apt::install("nftables").with_context(|| {
        format!("nft is missing, and apt-get cannot install it: install it as root, or set {NO_NAMESPACES}=1")
    })
}

/// Installs a component of the Rust toolchain if it is missing.
fn component(workspace: &Workspace, component: &str, subcommand: &str) -> Result<()> {
    if succeeds(&mut workspace.cargo([subcommand, "--version"])) {
        return Ok(());
    }
    check(Command::new("rustup").args(["component", "add", component])).with_context(|| {
        format!("cargo {subcommand} is missing: install {component} for this Rust toolchain")
    })
}
