//! `cargo xtask bench` and `soak`: the benchmarks and the soak, with the NATS server they need.

use anyhow::Result;

use crate::nats_server;
use crate::steps::check;
use crate::workspace::Workspace;

/// The benchmarks: by the names of their files in `aether-bench/benches`, but for `overload`, which is `peers`.
pub(crate) const NAMES: [&str; 7] = ["inprocess", "nats", "inbox", "overload", "physics", "hopping", "scale"];

/// How those benchmarks run that write pages.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// overload: how long each load is offered in each round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// overload: how often each load is offered; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// overload, hopping: what chance is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// physics: the seeds of the generators, FROM..TO.
    #[arg(long, default_value = "1..11")]
    seeds: String,
    /// physics: only this part, such as standing; may be given several times. Nothing is written then.
    #[arg(long = "part")]
    parts: Vec<String>,
    /// overload, physics, hopping, scale: only print what was measured, and leave the pages and the pictures in docs as
    /// they are.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the named benchmarks, all when none is named, and passes their output through.
pub(crate) fn run(workspace: &Workspace, names: &[String], options: &BenchArgs) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    let names = if names.is_empty() { NAMES.to_vec() } else { names.iter().map(String::as_str).collect() };
    for name in names {
        let bench = if name == "overload" { "peers" } else { name };
        let mut command = workspace.cargo(["bench", "--locked", "-p", "aether-bench", "--bench", bench]);
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
        if name == "scale" && !options.dry_run {
            command.arg("--").arg("--into").arg(workspace.root());
        }
        if name == "physics" {
            command.arg("--").args(["--seeds", &options.seeds]).args(&options.parts);
            if !options.dry_run && options.parts.is_empty() {
                command.arg("--into").arg(workspace.root());
            }
        }
        check(command.env(nats_server::ENV, &server))?;
    }
    Ok(())
}

/// Runs the soak, which reads its arguments itself.
pub(crate) fn soak(workspace: &Workspace, args: &[String]) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    let mut soak =
        workspace.cargo(["bench", "--locked", "--quiet", "-p", "aether-bench", "--bench", "soak", "--"]);
    check(soak.args(args).env(nats_server::ENV, &server))
}
