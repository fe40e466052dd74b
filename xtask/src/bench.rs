//! `cargo xtask bench` and `soak`: the benchmarks and the soak of aether-core, with the NATS server they need.

use anyhow::Result;

use crate::nats_server;
use crate::steps::check;
use crate::workspace::Workspace;

/// The benchmarks, by the names of their files in `aether-core/benches`.
pub(crate) const NAMES: [&str; 3] = ["inprocess", "nats", "physics"];

/// Runs the named benchmarks, all when none is named, with further arguments for each, and passes their output through.
pub(crate) fn run(workspace: &Workspace, names: &[String], arguments: &[String]) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    let names = if names.is_empty() { NAMES.to_vec() } else { names.iter().map(String::as_str).collect() };
    for name in names {
        check(
            workspace
                .cargo(["bench", "--locked", "-p", "aether-core", "--bench", name, "--"])
                .args(arguments)
                .env(nats_server::ENV, &server),
        )?;
    }
    Ok(())
}

/// Runs the soak, which reads its arguments itself.
pub(crate) fn soak(workspace: &Workspace, args: &[String]) -> Result<()> {
    let server = nats_server::find_or_install(workspace)?.path;
    let mut soak =
        workspace.cargo(["bench", "--locked", "--quiet", "-p", "aether-core", "--bench", "soak", "--"]);
    check(soak.args(args).env(nats_server::ENV, &server))
}
