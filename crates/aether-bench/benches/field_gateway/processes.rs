//! The servers, as processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A server process, which is killed with this.
pub(crate) struct Server {
    _process: Child,
    pub(crate) url: String,
    /// How many records the sync engine has replayed, and in how many seconds.
    pub(crate) replayed: Option<(f64, f64)>,
}

/// Lifts the limits that are not measured here: the connections from one address, and the messages of one client.
const LIMITS: [&str; 3] =
    ["max_connections_total=5000", "max_connections_per_source=5000", "messages_per_second=1000000"];

/// The python that has the sync engine.
pub(crate) fn sync_engine_python() -> Option<PathBuf> {
    std::env::var_os("AETHER_SYNC_ENGINE").filter(|python| python != "none").map(PathBuf::from)
}

impl Server {
    /// A gateway with the field `bench`, in memory or in a file.
    pub(crate) async fn gateway(store: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let field = store.map_or("bench".to_owned(), |path| format!("bench={}", path.display()));
        command.args([crate::SERVE, "--no-physics", "--listen", "127.0.0.1:0", "--field", &field]);
        for limit in LIMITS {
            command.args(["--field-limit", limit]);
        }
        Self::start(command, |line| {
            let address = line.strip_prefix("gateway: http://")?.split('/').next()?;
            Some(format!("ws://{address}/field/bench/ws"))
        })
        .await
    }

    /// The sync engine, with a ledger or without.
    pub(crate) async fn sync_engine(ledger: Option<&Path>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../aether-gateway/tests/suite/black_box/sync_engine.py");
        let mut command = Command::new(sync_engine_python().unwrap());
        command.arg(script).arg(ledger.unwrap_or(Path::new("-"))).args(["", "bench"]);
        Self::start(command, |line| Some(format!("ws://127.0.0.1:{}/", line.strip_prefix("port ")?))).await
    }

    async fn start(mut command: Command, url: impl Fn(&str) -> Option<String>) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut replayed = None;
        loop {
            let line = lines.next_line().await.unwrap().expect("the server ended");
            if let Some(done) = line.strip_prefix("replayed ") {
                let (records, seconds) = done.split_once(" in ").unwrap();
                replayed = Some((records.parse().unwrap(), seconds.parse().unwrap()));
            }
            if let Some(url) = url(&line) {
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Self { _process: process, url, replayed };
            }
        }
    }
}
