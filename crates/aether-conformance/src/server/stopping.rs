//! A server that is stopped for a while: its connections stand, and nothing is answered.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{NatsServer, ServerError};

impl NatsServer {
    /// Stops the process (SIGSTOP) and waits until all of its threads have stopped; until then it may go on answering. Its
    /// connections stay open. On Unix only.
    ///
    /// # Errors
    /// [`ServerError::Process`] if the server does not run, or the operating system refuses.
    ///
    /// # Cancel safety
    /// The signal is sent at the first poll; whether it has taken effect is then unknown.
    pub async fn stop(&self) -> Result<(), ServerError> {
        let process = self.signal(Signal::SIGSTOP)?;
        let wait = move || waitpid(process, Some(WaitPidFlag::WUNTRACED));
        let ended =
            tokio::task::spawn_blocking(wait).await.map_err(|error| ServerError::Process(error.into()))?;
        match ended.map_err(|error| ServerError::Process(error.into()))? {
            WaitStatus::Stopped(..) => Ok(()),
            other => Err(ServerError::Process(io::Error::other(format!("not stopped but {other:?}")))),
        }
    }

    /// Lets a stopped process go on (SIGCONT). On Unix only.
    ///
    /// # Errors
    /// [`ServerError::Process`] if the server does not run, or the operating system refuses.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal(Signal::SIGCONT).map(drop)
    }

    fn signal(&self, signal: Signal) -> Result<Pid, ServerError> {
        let process = self.pid().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let process = process.ok_or_else(|| ServerError::Process(io::ErrorKind::NotFound.into()))?;
        kill(process, signal).map_err(|error| ServerError::Process(error.into()))?;
        Ok(process)
    }
}
