//! `cargo xtask test`: everything that CI runs, cheapest checks first.
//!
//! It uses one profile (dev) and the default features, so that little is compiled twice; only the medium of a local network has
//! a build of its own.

use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::{Steps, check, succeeds};
use crate::workspace::Workspace;
use crate::{apt, browser, examples, modules, nats_server, node, promtool, sync_engine};

/// All of the kit.
const KIT_FEATURES: &str = "aether-testing/proptest,aether-testing/nats-server";
/// The medium of a local network, in everything that can have it.
const LAN_FEATURES: &str = "aether-core/lan,aether-chassis/lan,aether-service-alpha/lan,aether-service-beta/lan,aether-cli/lan,aether-bench/lan";
/// The packages whose tests are run with it.
const PACKAGES_WITH_LAN: [&str; 4] = ["aether-core", "aether-chassis", "aether-service-alpha", "aether-cli"];
/// Says that this machine cannot make network namespaces; for us and for the tests.
const NO_NAMESPACES: &str = "AETHER_NO_NAMESPACES";

fn excluding(packages: &[String]) -> String {
    let excluded: String = packages.iter().map(|package| format!(" --exclude {package}")).collect();
    format!("--workspace{excluded}")
}

fn selecting(packages: &[String]) -> String {
    let selected: String = packages.iter().map(|package| format!("-p {package} ")).collect();
    format!("{selected}--features {KIT_FEATURES}")
}

/// The arguments for the packages that are tested with the medium of a local network.
fn with_lan() -> String {
    let packages = PACKAGES_WITH_LAN.map(|package| format!("-p {package} ")).concat();
    let features = PACKAGES_WITH_LAN.map(|package| format!("{package}/lan")).join(",");
    format!("{packages}--locked --features {features}")
}

/// Runs all steps. `fast` skips the documentation build and the examples.
pub(crate) fn run(workspace: &Workspace, fast: bool) -> Result<()> {
    let mut steps = Steps::default();
    let (server, promtool, sync_engine, browser, node) = steps.run("tools", || {
        component(workspace, "rustfmt", "fmt")?;
        component(workspace, "clippy", "clippy")?;
        let server = nats_server::find_or_install(workspace)?;
        println!("nats-server: {server}");
        let promtool = promtool::find_or_install(workspace)?;
        println!("promtool: {promtool}");
        let (sync_engine, browser) = (sync_engine::find_or_install(workspace), browser::find_or_install()?);
        let node = node::find_or_install(workspace)?;
        nftables()?;
        println!("sync engine: {sync_engine}\nbrowser: {browser}\nnode: {}", node.program);
        Ok((server.path, promtool.path, sync_engine, browser, node))
    })?;
    let cargo = |args: &str| {
        let mut command = workspace.cargo(args.split_whitespace());
        command.env(nats_server::ENV, &server).env(promtool::ENV, &promtool);
        command.env(sync_engine::ENV, &sync_engine).env(browser::ENV, &browser);
        command.env(node::ENV, &node.program).env(node::MODULES_ENV, &node.modules);
        command
    };

    steps.run("format", || check(&mut cargo("fmt --all --check")))?;
    steps.run("modules", || modules::check(workspace))?;
    steps.run("clippy", || {
        check(&mut cargo(&format!(
            "clippy --workspace --all-targets --locked --features {KIT_FEATURES},{LAN_FEATURES} -- -D warnings"
        )))
    })?;
    for features in
        ["", "nats", "lan", "link", "physics", "hopping", "schema", "seal", "nats,seal", "conformance"]
    {
        steps.run(&format!("aether-core with [{features}]"), || {
            check(&mut cargo(&format!(
                "clippy -p aether-core --locked --no-default-features --features={features} -- -D warnings"
            )))
        })?;
    }
    // The workspace always has the features `bench` and `lan` on, so these builds would rot unnoticed.
    steps.run("aether-cli without bench", || {
        check(&mut cargo("clippy -p aether-cli --locked --no-default-features -- -D warnings"))
    })?;
    steps.run("aether-chassis without NATS", || {
        check(&mut cargo("clippy -p aether-chassis --locked --no-default-features -- -D warnings"))
    })?;
    steps.run("aether-field, the pure core", || {
        check(&mut cargo("clippy -p aether-field --locked --no-default-features -- -D warnings"))
    })?;
    steps.run("packages", || packages(workspace))?;
    if !fast {
        steps.run("documentation", || {
            // As clippy above, so that what it has checked is not checked again.
            let features = format!("{KIT_FEATURES},{LAN_FEATURES}");
            let args = format!("doc --workspace --no-deps --locked --features {features}");
            check(cargo(&args).env("RUSTDOCFLAGS", "-D warnings"))
        })?;
    }
    let with_kit = workspace.tested_with_kit()?;
    let has_nextest = succeeds(&mut cargo("nextest --version"));
    // Apart, because cargo unites the features of what it builds at once, and the kit replaces the clocks.
    for (name, packages) in
        [("tests", excluding(&with_kit)), ("tests with paused time", selecting(&with_kit))]
    {
        match has_nextest {
            true => steps.run(name, || {
                check(&mut cargo(&format!("nextest run {packages} --locked --no-fail-fast")))
            })?,
            false => steps.run(&format!("{name} (without nextest)"), || {
                check(&mut cargo(&format!("test {packages} --lib --bins --tests --locked")))
            })?,
        }
    }
    // Apart, because Zenoh would be linked into every test above. With the same packages and features in both invocations,
    // because cargo unites the features of what it builds at once: with others, Zenoh would be compiled twice.
    let with_lan = with_lan();
    steps.run("tests of the local network", || {
        let targets = "--lib --bin aether --test lan";
        // Of the command and of the chassis, what exists with the feature only: the checks of the network, and the arguments.
        let chosen = "binary(lan) | (package(aether-core) & test(/^medium::lan::/)) \
                      | (package(aether-cli) & test(/::lan::|the_arguments_are_consistent/)) \
                      | (package(aether-chassis) & test(/local_network/))";
        match has_nextest {
            true => {
                check(cargo(&format!("nextest run {with_lan} {targets} --no-fail-fast")).args(["-E", chosen]))
            }
            false => check(&mut cargo(&format!("test {with_lan} {targets}"))),
        }
    })?;
    steps.run("doc tests", || {
        let others = excluding(&PACKAGES_WITH_LAN.map(str::to_owned));
        check(&mut cargo(&format!("test {others} --doc --locked --features {KIT_FEATURES}")))?;
        check(&mut cargo(&format!("test {with_lan} --doc")))
    })?;
    if !fast {
        for package in ["aether-examples", "aether-core"] {
            examples::run(workspace, &mut steps, package, &server)?;
        }
    }
    print!("{}", steps.table());
    for (what, is_none) in [
        ("comparisons with the sync engine", sync_engine == "none"),
        ("tests in a browser", browser == "none"),
        ("tests of the pages", browser == "none" || node.program == "none"),
        ("tests between network namespaces", std::env::var(NO_NAMESPACES).is_ok_and(|excuse| excuse == "1")),
    ] {
        if is_none {
            println!("skipped: {what}");
        }
    }
    Ok(())
}

/// Packages each crate that is published. The packages are not compiled: that would build every dependency again, which
/// takes longer than all other steps together.
fn packages(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo(["package", "--locked", "--no-verify", "--allow-dirty", "--quiet"]);
    for name in workspace.published()? {
        command.args(["--package", &name]);
    }
    check(&mut command)
}

/// Installs the command that loses packets between network namespaces, which only root may do. Their tests need root, too.
fn nftables() -> Result<()> {
    let is_excused =
        !cfg!(target_os = "linux") || std::env::var(NO_NAMESPACES).is_ok_and(|excuse| excuse == "1");
    if is_excused || succeeds(Command::new("nft").arg("--version")) {
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
