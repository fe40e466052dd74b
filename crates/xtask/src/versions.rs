//! `cargo xtask versions REV`: the command of another revision and ours on one NATS server, and its files read by ours.
//!
//! Both are built, the other one in a work tree of git below `target/versions`, where the second time is quick. Everything
//! that is sent and stored is compared with what arrives and is read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::nats_server;
use crate::running::{Running, output};
use crate::steps::{Steps, check};
use crate::workspace::Workspace;

/// The number of waves in each direction.
const WAVES: usize = 1000;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct VersionsArgs {
    /// The other revision; the last release by default.
    revision: Option<String>,
    /// Build both with the medium `lan:`, and let them meet there as well.
    #[arg(long)]
    lan: bool,
}

/// The command of a version.
struct Program {
    name: &'static str,
    program: PathBuf,
    /// Where it runs: a folder without configuration.
    folder: PathBuf,
}

impl Program {
    fn command(&self, args: &[&str], url: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.folder).stdin(Stdio::null());
        // Commands that read a log or a store have no medium.
        if !url.is_empty() {
            command.args(["--medium", url]);
        }
        command.env("AETHER_LAN_SECRET", "a secret of these versions");
        command
    }

    fn run(&self, args: &[&str], url: &str) -> Result<String> {
        output(&mut self.command(args, url))
    }

    /// A process that has printed this.
    fn start(&self, args: &[&str], url: &str, ready: &str) -> Result<Running> {
        let mut running = Running::start(self.command(args, url).stdout(Stdio::null()))?;
        running.wait_for(ready)?;
        Ok(running)
    }
}

pub(crate) fn run(workspace: &Workspace, args: &VersionsArgs) -> Result<()> {
    let git = |args: &[&str]| -> Result<String> {
        Ok(output(Command::new("git").args(args).current_dir(workspace.root()))?.trim().to_owned())
    };
    let last = || git(&["describe", "--tags", "--abbrev=0", "--match", "v*"]).ok();
    let Some(revision) = args.revision.clone().or_else(last) else {
        println!("skipped: two versions side by side, as there is no release yet (cargo xtask versions REV)");
        return Ok(());
    };
    let mut steps = Steps::default();
    let server = steps.run("tools", || nats_server::find_or_install(workspace))?.path;
    let versions = workspace.target().join("versions");
    let program = steps.run(&format!("build of {revision}"), || {
        let commit = git(&["rev-parse", "--short=8", "--verify", &format!("{revision}^{{commit}}")])?;
        let tree = versions.join(&commit);
        if !tree.exists() {
            // Forced, because git still knows a tree that `cargo clean` removed.
            git(&["worktree", "add", "--force", "--detach", &tree.to_string_lossy(), &commit])?;
        }
        built(&Workspace::at(&tree)?, &versions, "old", args.lan)
    })?;
    let own = steps.run("build of this revision", || built(workspace, &versions, "new", args.lan))?;
    let folder = versions.join("run");
    // Absent the first time; other errors come again with the next line.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let old = Program { name: "old", program, folder: folder.clone() };
    let new = Program { name: "new", program: own, folder };

    let mut server = Running::start(Command::new(server).args(["--addr", "127.0.0.1", "--port", "-1"]))?;
    let line = server.wait_for("Listening for client connections on ")?;
    let url = format!("nats://{}", line.rsplit(' ').next().unwrap_or_default());
    let mut failures = Vec::new();
    let mut step = |name: &str, step: &mut dyn FnMut() -> Result<()>| {
        failures.extend(steps.attempt(name, step).err().map(|error| format!("{name}: {error:#}")));
    };
    for (from, to) in [(&old, &new), (&new, &old)] {
        let names = format!("from {} to {}", from.name, to.name);
        step(&format!("{WAVES} waves {names}"), &mut || waves(from, &url, to, &url));
        if args.lan {
            let free = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr();
            let listening = format!("lan:?multicast=off&listen={}", free()?);
            let emitting = listening.replace("listen=", &format!("listen={}&peer=", free()?));
            step(&format!("the same over lan {names}"), &mut || waves(from, &emitting, to, &listening));
        }
        step(&format!("a question {names}"), &mut || question(from, to, &url));
        step(&format!("a field, {} reads what {} kept", to.name, from.name), &mut || field(from, to, &url));
    }
    step("the store of a field of old", &mut || store(&old, &new, &url));
    step("a log of old", &mut || log(&old, &new, &url));
    print!("{}", steps.table());
    ensure!(failures.is_empty(), "the versions do not understand each other\n\n{}", failures.join("\n\n"));
    Ok(())
}

/// Builds the command, in a folder of both versions, so that what they depend on is compiled once. The program of the other
/// one has the same name, so a copy is used.
fn built(workspace: &Workspace, versions: &Path, name: &str, lan: bool) -> Result<PathBuf> {
    let package = workspace.package_of("aether").context("no package has the command aether")?;
    let mut build = workspace.cargo(["build", "--locked", "--bin", "aether", "--package", &package]);
    build.arg("--target-dir").arg(versions.join("target"));
    check(build.args(if lan { &["--features", "lan"][..] } else { &[] }))?;
    let copy = versions.join(name);
    fs::copy(versions.join("target/debug/aether"), &copy)?;
    Ok(copy)
}

/// Each wave arrives, in order, with all that it had.
fn waves(from: &Program, emitting: &str, to: &Program, listening: &str) -> Result<()> {
    let (sent, heard) = (from.folder.join("sent.jsonl"), from.folder.join("heard.jsonl"));
    let order = |number: usize| json!({ "number": number, "text": "gr\u{fc}n \u{1f321}" });
    fs::write(&sent, (0..WAVES).map(|number| format!("{}\n", order(number))).collect::<String>())?;
    let listen = format!("listen orders.> --group shop --json --count {WAVES}");
    let listen: Vec<_> = listen.split(' ').collect();
    let mut listener = Running::start(to.command(&listen, listening).stdout(File::create(&heard)?))?;
    listener.wait_for("listening on ")?;
    let emit = "emit orders.created - --kind command --key 17 --name shop --amplitude 0.9 --phase retract";
    let emit: Vec<_> = emit.split(' ').collect();
    output(from.command(&emit, emitting).stdin(File::open(sent)?))?;
    listener.end().with_context(|| format!("not all of {WAVES} waves arrived"))?;
    for (number, line) in fs::read_to_string(heard)?.lines().enumerate() {
        let wave: Value = serde_json::from_str(line)?;
        let expected = json!({
            "channel": "orders.created", "kind": "command", "source": "shop", "key": "17", "amplitude": 0.9,
            "payload": order(number),
        });
        let phase = wave["phase"].as_f64().unwrap_or_default();
        let is_whole = has(&wave, &expected) && (phase - std::f64::consts::PI).abs() < 1e-6;
        ensure!(is_whole, "wave {number} arrived as {line}");
    }
    Ok(())
}

/// Whether all members of an object are also in another one. There may be more.
fn has(found: &Value, expected: &Value) -> bool {
    expected.as_object().is_some_and(|members| members.iter().all(|(name, value)| found[name] == *value))
}

/// A service of one version answers the other one.
fn question(from: &Program, to: &Program, url: &str) -> Result<()> {
    let service = to.start(&["beta", "--units", "9"], url, "the service started")?;
    let reserve = r#"{"order":"17","sku":"lamp","quantity":2}"#;
    let answer = from.run(&["ask", "inventory.reserve", reserve, "--timeout", "30s"], url)?;
    ensure!(answer.contains("\"reserved\",\"available\":7"), "the answer is {answer}");
    service.interrupt()
}

/// A replica of one version keeps what commands of both write; both read it.
fn field(from: &Program, to: &Program, url: &str) -> Result<()> {
    let home = format!("of-{}", from.name);
    let keeper = from.start(&["field", "keep", &home], url, "keeps 0 entries")?;
    for by in [from, to] {
        by.run(&["field", "set", &home, by.name, "17"], url)?;
    }
    for (by, name) in [(from, from.name), (from, to.name), (to, from.name), (to, to.name)] {
        let found = by.run(&["field", "get", &home, name], url)?;
        ensure!(found.trim() == "17", "{} reads {found}", by.name);
    }
    keeper.interrupt()
}

/// The new version opens a store that the old one wrote.
fn store(old: &Program, new: &Program, url: &str) -> Result<()> {
    let keep = ["field", "keep", "home", "--store", "home.field"];
    let keeper = old.start(&keep, url, "keeps 0 entries")?;
    old.run(&["field", "set", "home", "lamp", "17"], url)?;
    keeper.interrupt()?;
    new.run(&["field", "verify", "home.field"], "")?;
    let keeper = new.start(&keep, url, "keeps 1 entries")?;
    let found = new.run(&["field", "get", "home", "lamp"], url)?;
    ensure!(found.trim() == "17", "new reads {found}");
    keeper.interrupt()
}

/// A log that the old version writes while a service of the new one answers it. Both read the same from it.
fn log(old: &Program, new: &Program, url: &str) -> Result<()> {
    let service = new.start(&["beta", "--units", "1000"], url, "the service started")?;
    let (folder, channels) = ("durable.folder=logs", "durable.synced=[\"orders.>\"]");
    let alpha = ["alpha", "--orders", "20", "--decline-rate", "0", "--set", folder, "--set", channels];
    ensure!(old.run(&alpha, url)?.contains("20 created = 20 completed"), "not all orders were completed");
    service.interrupt()?;
    let log = fs::read_dir(old.folder.join("logs"))?.next().context("the old version wrote no log")??.path();
    let log = log.to_string_lossy();
    new.run(&["log", "verify", &log], "")?;
    let (before, after) = (old.run(&["log", "export", &log], "")?, new.run(&["log", "export", &log], "")?);
    let count = after.lines().count();
    ensure!(count >= 20 && before.lines().count() == count, "of {before} new reads {count} waves");
    for (before, after) in before.lines().zip(after.lines()) {
        let (read, mut expected): (Value, Value) =
            (serde_json::from_str(after)?, serde_json::from_str(before)?);
        // The age at the time of reading.
        expected["wave"]["age_ms"] = read["wave"]["age_ms"].clone();
        let is_same = has(&read["wave"], &expected["wave"]) && read["position"] == expected["position"];
        ensure!(is_same, "old reads {before}\nand new {after}");
    }
    let tail = new.run(&["log", "tail", &log, "--last", "10000"], "")?;
    ensure!(tail.lines().count() == count, "of {count} waves only these are printed:\n{tail}");
    Ok(())
}
