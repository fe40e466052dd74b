//! One of the sample programs, as a process that can be stopped in each way.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::Outcome;

/// How long a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program. Dropping it kills the process.
pub(crate) struct Program {
    child: Child,
}

impl Program {
    /// Starts a program and waits for a line on stderr that contains `ready`.
    pub(crate) async fn start(command: Command, ready: &str) -> Outcome<Self> {
        let (program, mut lines) = Self::spawn(command)?;
        let is_ready = async {
            while let Some(line) = lines.recv().await {
                if line.contains(ready) {
                    return Ok(());
                }
            }
            Outcome::<()>::Err(format!("a program has ended before {ready:?}").into())
        };
        timeout(PATIENCE, is_ready).await??;
        Ok(program)
    }

    /// Starts a program. Returns the lines of its stderr, which a task reads to its end, so that the program never waits.
    pub(crate) fn spawn(mut command: Command) -> Outcome<(Self, UnboundedReceiver<String>)> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("a program without stderr")?).lines();
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(line);
            }
        });
        Ok((Self { child }, receiver))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        let pid = self.child.id().ok_or("the program has ended")?;
        Ok(kill(Pid::from_raw(pid.try_into()?), signal)?)
    }

    /// Kills the process and waits until it has ended.
    pub(crate) async fn kill(mut self) -> Outcome {
        Ok(self.child.kill().await?)
    }

    /// Asks the process to end, and waits until it has.
    pub(crate) async fn terminate(mut self) -> Outcome {
        self.signal(Signal::SIGTERM)?;
        timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }
}
