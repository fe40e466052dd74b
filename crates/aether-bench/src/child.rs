//! The receiving process as seen from the sender: starts it, sends it a job, waits for its result, and kills it on
//! drop.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::outcome::Heard;
use crate::receiver::{Job, Said};

/// The time limit for a receiving process to connect. It takes 30 ms on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The command of a receiving process: this program with arguments that make it call [`receive`](crate::receive).
#[derive(Debug, Clone)]
pub struct ChildProgram {
    program: PathBuf,
    args: Vec<OsString>,
}

impl ChildProgram {
    /// This program with other arguments.
    ///
    /// # Errors
    /// The operating system's error if the path of this program is unknown.
    pub fn this_with(args: impl IntoIterator<Item = impl Into<OsString>>) -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, args: args.into_iter().map(Into::into).collect() })
    }
}

/// Why the receiving process failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// It does not start.
    #[error("cannot start a receiving process")]
    Spawn(#[source] io::Error),
    /// It ended, or closed its stdout. The reason is on stderr.
    #[error("the receiving process ended too early; see its message on stderr")]
    Ended,
    /// It sent an unexpected message.
    #[error("the receiving process sent an unexpected message")]
    Protocol(#[source] io::Error),
    /// It was not ready in time.
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
    /// Starts the process and waits until it is subscribed.
    pub(crate) async fn start(program: &ChildProgram, job: &Job) -> Result<Self, ChildError> {
        let mut command = Command::new(&program.program);
        command.args(&program.args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C in a terminal signals the whole process group. This process must continue until the sender has ended
        // the run.
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

    /// Waits for its result after the end of the run.
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
