//! Processes that run while others are started, and what they print on standard error.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::steps::{check, shown};

/// For what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The standard output of a command that must succeed. Its error has what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}`: {}\n{}", shown(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A process; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    shown: String,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let shown = shown(command);
        let spawned = command.stderr(Stdio::piped()).spawn();
        let mut child = spawned.with_context(|| format!("cannot start `{shown}`"))?;
        let stderr = child.stderr.take().context("a process without standard error")?;
        let (line, lines) = channel();
        // Read to the end also if nobody waits for lines, so that the process is never blocked.
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|text| drop(line.send(text)));
        });
        Ok(Self { child, shown, lines })
    }

    /// The next line with this text.
    pub(crate) fn wait_for(&mut self, part: &str) -> Result<String> {
        let mut before = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return Ok(line),
                Ok(line) => before += &format!("\n{line}"),
                Err(_) => bail!("`{}` did not print {part:?}, only:{before}", self.shown),
            }
        }
    }

    /// Waits until it has ended by itself, with success.
    pub(crate) fn end(mut self) -> Result<()> {
        let mut printed = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => printed += &format!("\n{line}"),
                Err(RecvTimeoutError::Timeout) => bail!("`{}` did not end:{printed}", self.shown),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("`{}`: {status}{printed}", self.shown);
        }
        Ok(())
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn interrupt(self) -> Result<()> {
        check(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
