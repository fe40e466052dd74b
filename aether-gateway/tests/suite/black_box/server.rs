//! The servers under test, as processes: the sync engine, and this gateway.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The python of a virtual environment with the sync engine; `cargo xtask tools` makes one. `none` skips what needs it.
const SYNC_ENGINE: &str = "AETHER_SYNC_ENGINE";

/// How a gateway is started.
#[derive(Debug, Default)]
pub(crate) struct GatewayCommand {
    args: Vec<String>,
    store: Option<PathBuf>,
    token: String,
    /// The size of a file at which the disk is full, in KiB.
    disk: Option<u32>,
}

impl GatewayCommand {
    pub(crate) fn medium(mut self, url: &str) -> Self {
        self.args.extend(["--medium".to_owned(), url.to_owned()]);
        self
    }

    pub(crate) fn store(mut self, path: &Path) -> Self {
        self.store = Some(path.to_owned());
        self
    }

    pub(crate) fn token(mut self, token: &str) -> Self {
        self.token = token.to_owned();
        self
    }

    /// The time that a client has to authenticate, in seconds.
    pub(crate) fn handshake(mut self, seconds: &str) -> Self {
        self.args.extend(["--field-limit".to_owned(), format!("handshake_timeout_s={seconds}")]);
        self
    }

    /// No file of the gateway can be larger: what it writes beyond that fails, as on a full disk.
    pub(crate) fn disk(mut self, kib: u32) -> Self {
        self.disk = Some(kib);
        self
    }

    pub(crate) async fn start(self) -> Server {
        let field = self.store.map_or("home".to_owned(), |path| format!("home={}", path.display()));
        let mut command = match self.disk {
            None => Command::new(env!("CARGO_BIN_EXE_aether-gateway")),
            Some(kib) => {
                let mut command = Command::new("sh");
                // The unit of the shell is 512 bytes.
                let limited = format!("ulimit -f {}; trap '' XFSZ; exec \"$0\" \"$@\"", 2 * kib);
                command.args(["-c", &limited, env!("CARGO_BIN_EXE_aether-gateway")]);
                command
            }
        };
        command.args(["--no-physics", "--listen", "127.0.0.1:0"]);
        // More than any client needs to authenticate on a busy machine. The value of a test comes later and counts.
        command.args(["--field-limit", "handshake_timeout_s=60"]);
        command.args(["--field", &field]).args(self.args).env("AETHER_FIELD_TOKEN", self.token);
        Server::start(command, |line| {
            let address = line.strip_prefix("gateway: http://")?.split('/').next()?;
            Some(format!("ws://{address}/field/home/ws"))
        })
        .await
    }
}

/// A server process, which is killed with this.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    url: String,
}

impl Server {
    /// The sync engine, which gives a client `handshake` seconds to authenticate; `None`, with a word on standard
    /// error, if it is switched off.
    pub(crate) async fn sync_engine(ledger: &Path, token: &str, handshake: &str) -> Option<Self> {
        let python = std::env::var_os(SYNC_ENGINE).unwrap_or_else(|| {
            panic!(
                "set {SYNC_ENGINE} to the python that `cargo xtask tools` prints, or to `none` to skip this"
            )
        });
        if python == "none" {
            eprintln!("skipped: {SYNC_ENGINE} is none");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/black_box/sync_engine.py");
        let mut command = Command::new(PathBuf::from(python));
        command.arg(script).arg(ledger).args([token, "", handshake]);
        Some(
            Self::start(command, |line| Some(format!("ws://127.0.0.1:{}/", line.strip_prefix("port ")?)))
                .await,
        )
    }

    /// This gateway, with the field `home`.
    pub(crate) fn gateway() -> GatewayCommand {
        GatewayCommand::default()
    }

    async fn start(mut command: Command, url: impl Fn(&str) -> Option<String>) -> Self {
        // Python prints warnings about connections that break off.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("the server ended");
            if let Some(url) = url(&line) {
                // The rest of its output is read, so that it never waits for a reader.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Self { process, url };
            }
        }
    }

    /// The URL of the WebSocket, without a query.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Kills the process (SIGKILL), and waits for its end.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}
