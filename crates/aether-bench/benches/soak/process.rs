//! A process started by the driver: its orders, reports and memory.

use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use crate::memory::Memory;
use crate::{Args, Outcome, Role};

/// How long a process may take to start or to finish.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A child process. Dropping it kills the process.
pub(crate) struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    said: Lines<BufReader<ChildStdout>>,
    pub(crate) memory: Memory,
}

impl Process {
    pub(crate) fn start(role: Role, medium: &str, args: &Args) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role.as_str(), "--medium", medium]);
        command.arg(format!("--load={}", args.load)).arg(format!("--capacity={}", args.capacity));
        for part in &args.without {
            command.args(["--without", part.as_str()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (orders, said) = (child.stdin.take(), child.stdout.take().ok_or("a process without stdout")?);
        let memory = Memory::of(child.id().ok_or("a process that has ended")?);
        Ok(Self { child, orders, said: BufReader::new(said).lines(), memory })
    }

    /// The next report of the process.
    pub(crate) async fn tells<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let line = self.said.next_line().await?.ok_or("a process has ended before its time")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// The first report, which the process sends when it is ready.
    pub(crate) async fn is_ready<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        timeout_at(Instant::now() + PATIENCE, self.tells()).await?
    }

    pub(crate) async fn order(&mut self, line: &str) -> Outcome<()> {
        Ok(self.orders.as_mut().ok_or("a process without stdin")?.write_all(line.as_bytes()).await?)
    }

    /// The final report, which the process sends before it waits for the end of stdin, or exits.
    pub(crate) async fn last<T: DeserializeOwned>(
        &mut self,
        order: &str,
        is_last: impl Fn(&T) -> bool,
    ) -> Outcome<T> {
        self.order(order).await?;
        let until = Instant::now() + PATIENCE;
        loop {
            let told: T = timeout_at(until, self.tells()).await.map_err(|_| "a process does not end")??;
            if is_last(&told) {
                return Ok(told);
            }
        }
    }

    /// Waits until the process has exited. It exits when its stdin ends.
    pub(crate) async fn ends(&mut self) -> Outcome<()> {
        self.orders = None;
        let status = timeout_at(Instant::now() + PATIENCE, self.child.wait()).await??;
        if status.success() { Ok(()) } else { Err(format!("a process failed: {status}").into()) }
    }
}
