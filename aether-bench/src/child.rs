//! The receiving process as seen from the sender: started, told what to do, waited for, and gone when dropped.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::outcome::Heard;
use crate::receiver::{Job, Said};

/// How long a receiving process may take to connect. It takes 30 ms on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How a receiving process is started: the program calls itself, with arguments that make it call
/// [`receive`](crate::receive).
#[derive(Debug, Clone)]
pub struct ChildProgram {
    program: PathBuf,
    args: Vec<OsString>,
}

impl ChildProgram {
    /// This program with other arguments.
    ///
    /// # Errors
    /// The operating system's error if it does not know where this program is.
    pub fn this_with(args: impl IntoIterator<Item = impl Into<OsString>>) -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, args: args.into_iter().map(Into::into).collect() })
    }
}

/// Why there is no receiving process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// It does not start.
    #[error("cannot start a receiving process")]
    Spawn(#[source] io::Error),
    /// It ended, or closed its stdout; it has said why on stderr.
    #[error("the receiving process ended too early; it says why on stderr")]
    Ended,
    /// It said something else than it should.
    #[error("the receiving process is not understood")]
    Protocol(#[source] io::Error),
    /// It does not get ready.
    #[error("the receiving process was not ready within {0:?}")]
    NotReady(Duration),
}

/// A receiving process that is ready.
pub(crate) struct Child {
    /// Killed when dropped.
    _process: tokio::process::Child,
    /// It ends when this is closed.
    _stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts the process and waits until it hears.
    pub(crate) async fn start(program: &ChildProgram, job: &Job) -> Result<Self, ChildError> {
        let mut command = Command::new(&program.program);
        command.args(&program.args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // A terminal tells all processes of its group of Ctrl-C. This one shall go on until the sender has ended the run.
        #[cfg(unix)]
        command.process_group(0);
        let mut process = command.spawn().map_err(ChildError::Spawn)?;
        let (Some(mut stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(ChildError::Spawn(io::ErrorKind::BrokenPipe.into()));
        };
        let mut line = serde_json::to_vec(job).map_err(|error| ChildError::Protocol(error.into()))?;
        line.push(b'\n');
        stdin.write_all(&line).await.map_err(|_| ChildError::Ended)?;
        let mut child = Self { _process: process, _stdin: stdin, lines: BufReader::new(stdout).lines() };
        match tokio::time::timeout(READY_WITHIN, child.next()).await {
            Ok(Ok(Said::Ready)) => Ok(child),
            Ok(Ok(Said::Heard(_))) => Err(ChildError::Protocol(io::ErrorKind::InvalidData.into())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ChildError::NotReady(READY_WITHIN)),
        }
    }

    /// What it heard, once it has heard the end.
    ///
    /// Cancel safety: cancelled before completion, nothing was read; it can be called again.
    pub(crate) async fn heard(&mut self) -> Result<Heard, ChildError> {
        match self.next().await? {
            Said::Heard(heard) => Ok(heard),
            Said::Ready => Err(ChildError::Protocol(io::ErrorKind::InvalidData.into())),
        }
    }

    async fn next(&mut self) -> Result<Said, ChildError> {
        let line = self.lines.next_line().await.map_err(ChildError::Protocol)?.ok_or(ChildError::Ended)?;
        serde_json::from_str(&line).map_err(|error| ChildError::Protocol(error.into()))
    }
}
