//! A real NATS server for tests: one process on a free loopback port, killed on drop.
//!
//! Used by all tests that need a broker: to start one, to kill it, and to restart it on the same port. It installs
//! nothing: `cargo xtask tools` does, and `cargo xtask test` does so by itself.
//!
//! ```
//! use aether_conformance::NatsServer;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), aether_conformance::ServerError> {
//! let mut server = NatsServer::start().await?;
//! assert_eq!(server.url(), format!("nats://127.0.0.1:{}", server.port()));
//! server.kill().await?; // clients lose their connections
//! server.restart().await?; // and can reconnect
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, PipeReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::free_port;

/// The path at which `cargo xtask tools` installs the server, below a build folder.
const TOOL: &str = "tools/nats-server-2.15.1/nats-server";

/// The time limit for becoming ready. It takes 10 ms on an idle machine; this is for a busy one.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// The number of lines of the server's log shown in an error; a start writes about eight.
const LINES_IN_ERROR: usize = 20;

/// Why a server could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No server program was found in any of the searched places.
    #[error("no nats-server found: run `cargo xtask tools`, or set AETHER_NATS_SERVER to the path of one")]
    NotFound,
    /// The program exists, or was named by `AETHER_NATS_SERVER`, but does not start.
    #[error("cannot start {}", .binary.display())]
    Spawn {
        /// The program.
        binary: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The server exited before it was ready: an argument or a setting is wrong, or the port is taken.
    #[error("nats-server ended before it was ready; the end of its log:\n{log}")]
    Exited {
        /// The last lines of its log.
        log: String,
    },
    /// The server runs, but did not report that it is ready.
    #[error("nats-server was not ready after {after:?}; the end of its log:\n{log}")]
    NotReady {
        /// The time waited.
        after: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// The process could not be configured, signalled or waited for.
    #[error("cannot reach the process of nats-server")]
    Process(#[source] io::Error),
}

/// Options of a server; the default is a plain one.
///
/// # Examples
/// ```
/// use aether_conformance::{NatsServer, ServerOptions};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), aether_conformance::ServerError> {
/// let options = ServerOptions::default().setting("max_payload", 1024).arg("--debug");
/// let server = NatsServer::start_with(options).await?;
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    args: Vec<OsString>,
    settings: String,
}

impl ServerOptions {
    /// Adds one command line argument, such as `--jetstream`. Default: only the address and the port.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds one line `name: value` to the server's configuration file, for settings without an argument: `max_payload`
    /// (bytes, default 1 MiB), `ping_interval`, `write_deadline`. The value is written verbatim, so quote text that the
    /// server could parse as something else. Default: no file.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        // Writing to a String cannot fail.
        let _ = writeln!(self.settings, "{name}: {value}");
        self
    }
}

/// A running NATS server: one process, one loopback port, no files.
///
/// Dropping it kills the process; one kept in a `static` outlives the test. It belongs to the runtime it was started
/// on. A thread reads the log until the process ends, so the server never blocks on it. Nothing here waits on the
/// runtime's clock, which tests may have paused.
#[derive(Debug)]
pub struct NatsServer {
    binary: PathBuf,
    options: ServerOptions,
    port: u16,
    child: Child,
}

impl NatsServer {
    /// Starts a plain server on a free port of 127.0.0.1, and waits until it accepts connections.
    ///
    /// The program is the one named by `AETHER_NATS_SERVER`, or else the one installed by `cargo xtask tools` (in
    /// `CARGO_TARGET_DIR`, or in `target` of this package's folder or one above), or else the one on `PATH`.
    ///
    /// # Errors
    /// [`ServerError::NotFound`] without a program; the others if it does not start or does not become ready.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the server being started is killed.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(ServerOptions::default()).await
    }

    /// Like [`start`](Self::start), with arguments and settings.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`ServerError::Exited`] if the server rejects the options.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the server being started is killed.
    pub async fn start_with(options: ServerOptions) -> Result<Self, ServerError> {
        let binary = find_binary().ok_or(ServerError::NotFound)?;
        let port = free_port().map_err(ServerError::Process)?;
        let child = launch(&binary, &options, port).await?;
        Ok(Self { binary, options, port, child })
    }

    /// The address for clients: `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port, the same before and after a [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id; `None` once [`kill`](Self::kill) or [`terminate`](Self::terminate) has seen the process exit.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills the server (SIGKILL) and waits until the process has exited. Its clients only see closed connections. Does
    /// nothing if the process has exited already.
    ///
    /// # Errors
    /// [`ServerError::Process`] if the operating system refuses.
    ///
    /// # Cancel safety
    /// The signal is sent at the first poll; a second call continues to wait.
    pub async fn kill(&mut self) -> Result<(), ServerError> {
        if self.child.id().is_none() {
            return Ok(());
        }
        self.child.kill().await.map_err(ServerError::Process)
    }

    /// Asks the server to shut down and waits until the process has exited. Does nothing if it has exited already.
    ///
    /// # Errors
    /// [`ServerError::Process`] if the signal cannot be sent.
    ///
    /// # Cancel safety
    /// The signal was sent or not; a second call sends it again and continues to wait.
    pub async fn terminate(&mut self) -> Result<(), ServerError> {
        let Some(pid) = self.child.id() else { return Ok(()) };
        // The server program can signal another server, which saves a dependency (or `unsafe`) just for this.
        let sent = Command::new(&self.binary)
            .arg("--signal")
            .arg(format!("quit={pid}"))
            .kill_on_drop(true)
            .output()
            .await
            .map_err(ServerError::Process)?;
        // It also fails if the server exited in between; then nothing is left to do.
        if !sent.status.success() && self.child.try_wait().map_err(ServerError::Process)?.is_none() {
            let said = String::from_utf8_lossy(&sent.stderr).trim().to_owned();
            return Err(ServerError::Process(io::Error::other(said)));
        }
        self.child.wait().await.map_err(ServerError::Process)?;
        Ok(())
    }

    /// Restarts the server with the same options on the same port; a running one is killed first.
    ///
    /// Old connections in TIME_WAIT do not prevent this: the server sets `SO_REUSEADDR`. Nobody is given the port while the
    /// server is down; a process that asks for just this one makes it [`ServerError::Exited`] with the reason in the log.
    ///
    /// # Errors
    /// As [`start_with`](Self::start_with); the server then stays down.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the server may be down, and can be restarted.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill().await?;
        self.child = launch(&self.binary, &self.options, self.port).await?;
        Ok(())
    }
}

/// Starts the process and waits until it is ready.
async fn launch(binary: &Path, options: &ServerOptions, port: u16) -> Result<Child, ServerError> {
    let (log, log_writer) = io::pipe().map_err(ServerError::Process)?;
    let mut command = Command::new(binary);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]).args(&options.args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_writer).kill_on_drop(true);
    if !options.settings.is_empty() {
        // The file is a pipe, so there is nothing to clean up. It is written before it is read; a pipe's buffer (at
        // least 16 KiB) holds many more settings than a test will ever have.
        let (settings, mut writer) = io::pipe().map_err(ServerError::Process)?;
        writer.write_all(options.settings.as_bytes()).map_err(ServerError::Process)?;
        command.args(["--config", "/dev/stdin"]).stdin(settings);
    }
    let child = command.spawn().map_err(|source| ServerError::Spawn { binary: binary.to_owned(), source })?;
    // It holds our copy of the log's writing end, without which the log never ends.
    drop(command);
    let (sender, lines) = mpsc::channel();
    std::thread::Builder::new()
        .name("nats-server-log".to_owned())
        .spawn(move || drain(log, sender))
        .map_err(ServerError::Process)?;
    // A blocking task and not a timer, because it needs real time even if the runtime's clock is paused.
    tokio::task::spawn_blocking(move || wait_until_ready(&lines, READY_WITHIN))
        .await
        .map_err(|error| ServerError::Process(error.into()))??;
    Ok(child)
}

/// Reads the log to its end, and forwards the lines while there is a receiver.
fn drain(log: PipeReader, lines: mpsc::Sender<String>) {
    let mut lines = Some(lines);
    let mut log = BufReader::new(log);
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        lines = lines.filter(|lines| lines.send(text).is_ok());
        line.clear();
    }
}

/// Follows the log up to "Server is ready".
fn wait_until_ready(lines: &mpsc::Receiver<String>, limit: Duration) -> Result<(), ServerError> {
    let deadline = Instant::now() + limit;
    let mut last = VecDeque::new();
    let text = |last: VecDeque<String>| Vec::from(last).join("\n");
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let ready = line.ends_with("Server is ready");
                if last.len() == LINES_IN_ERROR {
                    last.pop_front();
                }
                last.push_back(line);
                if ready {
                    return Ok(());
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(ServerError::Exited { log: text(last) });
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(ServerError::NotReady { after: limit, log: text(last) });
            }
        }
    }
}

fn find_binary() -> Option<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).or_else(|| env::current_dir().ok());
    choose(
        env::var_os("AETHER_NATS_SERVER").as_deref(),
        env::var_os("CARGO_TARGET_DIR").as_deref(),
        package.as_deref(),
        env::var_os("PATH").as_deref(),
    )
}

/// The server program: the named one unchecked (a wrong name must not be ignored silently), or else the first that
/// exists.
fn choose(
    named: Option<&OsStr>,
    target: Option<&OsStr>,
    package: Option<&Path>,
    path: Option<&OsStr>,
) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.into());
    }
    let target = target.into_iter().map(PathBuf::from);
    let targets = package.into_iter().flat_map(Path::ancestors).map(|folder| folder.join("target"));
    let installed = target.chain(targets).map(|target| target.join(TOOL));
    let on_path = path.into_iter().flat_map(env::split_paths).map(|folder| folder.join("nats-server"));
    installed.chain(on_path).find(|program| program.is_file())
}

mod cluster;
#[cfg(unix)]
mod stopping;

pub use cluster::NatsCluster;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Connects, and reads the first line sent by a server.
    async fn info(server: &NatsServer) -> (tokio::io::BufReader<TcpStream>, serde_json::Value) {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        let mut stream = tokio::io::BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let json = line.strip_prefix("INFO ").unwrap_or_else(|| panic!("not an INFO line: {line}"));
        (stream, serde_json::from_str(json).unwrap())
    }

    #[tokio::test]
    async fn a_killed_server_comes_back_on_the_same_port() {
        let mut server = NatsServer::start().await.unwrap();
        let (port, pid, url) = (server.port(), server.pid(), server.url());
        assert!(pid.is_some());
        let (mut client, before) = info(&server).await;
        assert_eq!(before["port"], port);

        server.kill().await.unwrap();
        assert_eq!(server.pid(), None);
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
        // The client only sees the closed connection, and its end keeps the port in use meanwhile.
        assert!(matches!(client.read(&mut [0; 64]).await, Ok(0) | Err(_)));
        server.kill().await.unwrap();

        server.restart().await.unwrap();
        let (_client, after) = info(&server).await;
        assert_eq!((server.port(), server.url()), (port, url));
        assert_ne!(server.pid(), pid);
        assert_ne!(after["server_id"], before["server_id"]);
    }

    #[tokio::test]
    async fn ports_in_time_wait_do_not_hinder_a_restart() {
        let mut server = NatsServer::start().await.unwrap();
        for _ in 0..5 {
            let ((mut client, _), pid) = (info(&server).await, server.pid());
            // The side that closes first enters TIME_WAIT, unless the other has unread data (RST).
            server.terminate().await.unwrap();
            client.read_to_end(&mut Vec::new()).await.unwrap();
            drop(client);
            server.restart().await.unwrap();
            assert_ne!(server.pid(), pid);
        }
        let pid = server.pid();
        server.restart().await.unwrap();
        assert_ne!(server.pid(), pid, "a running server is replaced");
    }

    #[tokio::test]
    async fn options_hold_after_a_restart_too() {
        let options = ServerOptions::default().setting("max_payload", 1024).arg("--name").arg("small");
        let mut server = NatsServer::start_with(options).await.unwrap();
        for _ in 0..2 {
            let (_, info) = info(&server).await;
            assert_eq!((&info["max_payload"], &info["server_name"]), (&1024.into(), &"small".into()));
            server.restart().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_wrong_setting_and_a_taken_port_are_reported_with_the_log() {
        let wrong = ServerOptions::default().setting("max_payloda", 1024);
        let error = NatsServer::start_with(wrong).await.unwrap_err();
        assert!(matches!(&error, ServerError::Exited { log } if log.contains("max_payloda")), "{error}");

        let mut server = NatsServer::start().await.unwrap();
        server.kill().await.unwrap();
        let other = std::net::TcpListener::bind(("127.0.0.1", server.port())).unwrap();
        let error = server.restart().await.unwrap_err();
        assert!(matches!(&error, ServerError::Exited { log } if log.contains("in use")), "{error}");
        drop(other);
        server.restart().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_does_not_stop_a_start() {
        let (timer, started) = (tokio::time::Instant::now(), NatsServer::start().await);
        assert!(started.is_ok());
        assert_eq!(timer.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_dropped_server_is_gone() {
        let server = NatsServer::start().await.unwrap();
        let (mut client, _) = info(&server).await;
        drop(server);
        // The connection ends only with the process, so the port need not be watched.
        assert!(matches!(client.read(&mut [0; 64]).await, Ok(0) | Err(_)));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_stopped_server_says_nothing_until_it_is_resumed() {
        let mut server = NatsServer::start().await.unwrap();
        let (mut client, _) = info(&server).await;
        server.stop().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut client, b"CONNECT {}\r\nPING\r\n").await.unwrap();
        let mut line = String::new();
        assert!(client.read_line(&mut line).now_or_never().is_none());
        server.resume().unwrap();
        client.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("PONG") || line.starts_with("+OK"), "{line}");
        server.stop().await.unwrap();
        server.kill().await.unwrap();
        assert!(matches!(server.stop().await, Err(ServerError::Process(_))));
        assert!(matches!(server.resume(), Err(ServerError::Process(_))));
    }

    #[test]
    fn a_silent_server_times_out() {
        let (sender, lines) = mpsc::channel();
        sender.send("Starting nats-server".to_owned()).unwrap();
        let error = wait_until_ready(&lines, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(&error, ServerError::NotReady { log, .. } if log == "Starting nats-server"));
    }

    #[test]
    fn the_program_is_looked_for_in_order() {
        let folder = env::temp_dir().join(format!("aether-server-{}", std::process::id()));
        // An earlier process of this number may have left it.
        let _ = std::fs::remove_dir_all(&folder);
        let place = |program: PathBuf| {
            std::fs::create_dir_all(program.parent().unwrap()).unwrap();
            std::fs::write(&program, "").unwrap();
            program
        };
        let (target, package, path) =
            (folder.join("build"), folder.join("house/package"), folder.join("path"));
        let found = |named: Option<&str>| {
            choose(named.map(OsStr::new), Some(target.as_ref()), Some(&package), Some(path.as_ref()))
        };

        let on_path = place(path.join("nats-server"));
        assert_eq!(found(None), Some(on_path));
        let above = place(folder.join("house/target").join(TOOL));
        assert_eq!(found(None), Some(above));
        let in_target = place(target.join(TOOL));
        assert_eq!(found(None), Some(in_target));
        assert_eq!(found(Some("/no/such")), Some("/no/such".into()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
