//! A Postgres server of a test: in a temporary folder, on a socket in it, stopped on drop.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tempfile::TempDir;

/// The user that runs the server for root, which it refuses.
const USER: &str = "postgres";

pub(crate) struct PostgresServer {
    server: Child,
    folder: TempDir,
}

impl PostgresServer {
    /// `None` where `AETHER_POSTGRES` is `none`.
    pub(crate) fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().unwrap();
        if nix::unistd::geteuid().is_root() {
            assert!(Command::new("chown").arg(USER).arg(folder.path()).status().unwrap().success());
        }
        let data = folder.path().join("data");
        let made = command(&programs.join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = command(&programs.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "deadlock_timeout=50ms", "-D"])
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap());
        let mut line = String::new();
        let mut text = String::new();
        while !line.contains("ready to accept connections") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server has ended:\n{text}");
            text.push_str(&line);
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Self { server, folder })
    }

    /// A pool of its own, as another process would have it, with this name in the lists of the server.
    pub(crate) async fn pool(&self, process: &str) -> PgPool {
        let options = PgConnectOptions::new_without_pgpass().socket(self.folder.path());
        let options = options.username("postgres").database("postgres").application_name(process);
        PgPoolOptions::new().max_connections(8).connect_with(options).await.unwrap()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // An end at once, with its own processes and its shared memory, which a kill would leave.
        let server = Pid::from_raw(self.server.id().try_into().unwrap());
        nix::sys::signal::kill(server, Signal::SIGQUIT).unwrap();
        let _ = self.server.wait();
    }
}

/// The folder with the programs of a server.
fn programs() -> Option<PathBuf> {
    match std::env::var("AETHER_POSTGRES") {
        Ok(none) if none == "none" => return None,
        Ok(named) => return Some(named.into()),
        Err(_) => {}
    }
    // As Debian has it; the newest version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let newest = folders.filter(|folder| folder.join("postgres").is_file()).max();
    Some(
        newest.expect(
            "no Postgres: run `cargo xtask tools`, or set AETHER_POSTGRES to the folder of its programs",
        ),
    )
}

/// A program that ends with the test, and is not root.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if nix::unistd::geteuid().is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}
