//! `cargo xtask bench` and `soak`: the benchmarks and the soak, with the NATS server they need.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::browser;
use crate::nats_server;
use crate::node;
use crate::steps::check;
use crate::sync_engine;
use crate::valgrind;
use crate::workspace::Workspace;

/// The benchmarks. Each is a file of that name in `crates/aether-bench/benches`, except `overload`, which is the file
/// `peers`. `field` is three files: see [`field`]. `page` runs in Node: see [`page`].
pub(crate) const NAMES: [&str; 20] = [
    "inprocess",
    "handlers",
    "instructions",
    "nats",
    "inbox",
    "overload",
    "physics",
    "hopping",
    "seal",
    "shares",
    "scale",
    "field",
    "stores",
    "log",
    "queue",
    "jetstream",
    "lan",
    "operations",
    "gateway",
    "page",
];

/// The paths of `instructions` that show what metrics and traces cost, and that they cost nothing while they are off.
const OPERATIONS_PATHS: [&str; 5] =
    ["turns/bus/shared", "handler/shared", "handler/emitter", "handler/metered", "handler/unsampled"];

/// The options of the benchmarks that write pages.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// overload: the duration of each load in each round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// overload: the number of rounds per load; the median round is reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// overload, hopping: the random seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// physics: the seeds of the generators, FROM..TO.
    #[arg(long, default_value = "1..11")]
    seeds: String,
    /// physics: only this part, such as standing; can be repeated. Only its section is written. field: `core`,
    /// `network` or `gateway`. operations: `waves`, `reload`, `accounts`, `top` or `instructions`. page: `load`, `frames`,
    /// `start`, `crowd` or `memory`. lan: `throughput`, `round-trip`, `start` or `overload`.
    #[arg(long = "part")]
    parts: Vec<String>,
    /// mimalloc in place of the allocator of the system. Not for `instructions`, which counts the system's allocator.
    #[arg(long)]
    mimalloc: bool,
    /// overload, physics, hopping, scale: only print the results, without writing pages and pictures.
    #[arg(long)]
    dry_run: bool,
    /// gateway: measure its memory for this many minutes, with 10,000 channels and 1,000 vibrators, instead of its
    /// clients.
    #[arg(long, value_name = "MINUTES")]
    memory: Option<u64>,
    /// instructions: only the paths whose names contain this word; can be repeated.
    #[arg(long = "path", value_name = "WORD")]
    paths: Vec<String>,
    /// instructions: write the counts into crates/aether-bench/instructions.json instead of comparing them.
    #[arg(long)]
    record: bool,
}

/// Runs the named benchmarks, or all, and passes their output through.
pub(crate) fn run(workspace: &Workspace, names: &[String], options: &BenchArgs) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    let names = if names.is_empty() { NAMES.to_vec() } else { names.iter().map(String::as_str).collect() };
    for name in names {
        if name == "field" {
            field(workspace, &options.parts, options.mimalloc)?;
            continue;
        }
        if name == "operations" {
            operations(workspace, &options.parts)?;
            continue;
        }
        if name == "page" {
            page(workspace, &options.parts)?;
            continue;
        }
        let bench = if name == "overload" { "peers" } else { name };
        let mut command = workspace.cargo(["bench", "--locked", "-p", "aether-bus-bench", "--bench", bench]);
        command.args(["inbox", "inprocess", "log", "stores"].contains(&name).then_some("--features=peers"));
        command.args((name == "handlers").then_some("--features=ruststream"));
        command.args((name == "lan").then_some("--features=lan"));
        command.args(options.mimalloc.then_some("--features=mimalloc"));
        if name == "overload" {
            command.arg("--").arg(format!("--seconds={}", options.seconds));
            command.arg(format!("--rounds={}", options.rounds));
            command.arg(format!("--seed={}", options.seed));
            if !options.dry_run {
                command.arg("--into").arg(workspace.root());
            }
        }
        if name == "hopping" {
            command.arg("--").arg(format!("--seed={}", options.seed));
            if !options.dry_run {
                command.arg("--into").arg(workspace.root());
            }
        }
        if let Some(minutes) = options.memory.filter(|_| name == "gateway") {
            command.args(["--", "--memory", &minutes.to_string()]);
        }
        if name == "lan" {
            command.arg("--").args(&options.parts);
        }
        if name == "scale" && !options.dry_run {
            command.arg("--").arg("--into").arg(workspace.root());
        }
        if name == "instructions" {
            valgrind::find_or_install()?;
            command
                .args(["--", "--recorded"])
                .arg(workspace.root().join("crates/aether-bench/instructions.json"));
            command.args(options.record.then_some("--record")).args(&options.paths);
        }
        if name == "physics" {
            command.arg("--").args(["--seeds", &options.seeds]).args(&options.parts);
            if !options.dry_run {
                command.arg("--into").arg(workspace.root());
            }
        }
        check(command.env(nats_server::ENV, &server))?;
    }
    Ok(())
}

/// The cost of operations: the parts of the benchmark with the command as users run it, and the instructions of waves
/// while everything is off, compared with the counts recorded before there were metrics and traces.
fn operations(workspace: &Workspace, parts: &[String]) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    check(&mut workspace.cargo(["build", "--locked", "--profile", "dist", "-p", "aether-bus-cli"]))?;
    let mut measured = Ok(());
    if parts.is_empty() || parts.iter().any(|part| part != "instructions") {
        let mut bench =
            workspace.cargo(["bench", "--locked", "-p", "aether-bus-bench", "--bench", "operations"]);
        bench.args(["--", "--aether"]).arg(workspace.target().join("dist/aether"));
        measured = check(
            bench.args(parts.iter().filter(|part| *part != "instructions")).env(nats_server::ENV, &server),
        );
    }
    if parts.is_empty() || parts.iter().any(|part| part == "instructions") {
        valgrind::find_or_install()?;
        let mut bench =
            workspace.cargo(["bench", "--locked", "-p", "aether-bus-bench", "--bench", "instructions"]);
        bench.args(["--", "--recorded"]).arg(workspace.root().join("crates/aether-bench/instructions.json"));
        check(bench.args(OPERATIONS_PATHS))?;
    }
    // A goal that was missed hides no other figure.
    measured
}

/// The pages in a real browser under load, and the gateway with many clients and many channels, with the command as
/// users run it.
fn page(workspace: &Workspace, parts: &[String]) -> Result<()> {
    let (server, browser) = (nats_server::find_or_install(workspace)?.path, browser::find_or_install()?);
    let node = node::find_or_install(workspace)?;
    if node.program == node::NONE || browser == node::NONE {
        bail!("this benchmark needs Node and a browser, which are set to {}", node::NONE);
    }
    check(&mut workspace.cargo(["build", "--locked", "--profile", "dist", "-p", "aether-bus-cli"]))?;
    let mut bench = Command::new(&node.program);
    bench.arg("bench.mjs").args(parts).current_dir(workspace.root().join(node::FOLDER));
    bench.env("AETHER_PROGRAM", std::path::absolute(workspace.target().join("dist/aether"))?);
    bench.env(nats_server::ENV, &server).env(browser::ENV, browser);
    check(bench.env(node::MODULES_ENV, &node.modules))
}

/// The field in process, over a NATS server, and through the gateway; the first and the last beside the sync engine.
fn field(workspace: &Workspace, parts: &[String], mimalloc: bool) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    for (part, package, bench) in [
        ("core", "aether-bus-bench", "field"),
        ("network", "aether-bus-field", "field_network"),
        ("gateway", "aether-bus-bench", "field_gateway"),
    ] {
        if parts.is_empty() || parts.iter().any(|wanted| wanted == part) {
            let mut command = workspace.cargo(["bench", "--locked", "-p", package, "--bench", bench]);
            command.env(nats_server::ENV, &server);
            command.args((mimalloc && package == "aether-bus-bench").then_some("--features=mimalloc"));
            check(command.env(sync_engine::ENV, sync_engine::find_or_install(workspace)))?;
        }
    }
    Ok(())
}

/// Records real traffic with faults that are made on purpose. Builds `aether` as users run it, and the program that makes
/// the faults without optimisation, which it does not need.
pub(crate) fn recordings(workspace: &Workspace, into: Option<PathBuf>, names: &[String]) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    check(&mut workspace.cargo(["build", "--locked", "--profile", "dist", "-p", "aether-bus-cli"]))?;
    let into = into.unwrap_or_else(|| workspace.root().join("crates/aether-bench/recordings"));
    let mut bench = workspace.cargo(["bench", "--locked", "--profile", "dev", "-p", "aether-bus-bench"]);
    bench.args(["--bench", "recordings", "--", "--aether"]).arg(workspace.target().join("dist/aether"));
    check(bench.arg("--into").arg(into).args(names).env(nats_server::ENV, &server))
}

/// Runs the soak, which parses its own arguments.
pub(crate) fn soak(workspace: &Workspace, args: &[String]) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    let mut soak =
        workspace.cargo(["bench", "--locked", "--quiet", "-p", "aether-bus-bench", "--bench", "soak", "--"]);
    check(soak.args(args).env(nats_server::ENV, &server))
}
