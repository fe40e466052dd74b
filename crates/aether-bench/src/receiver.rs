//! The receiving process: the other half of a run over a network.
//!
//! [`Child`](crate::child) starts it and communicates over stdin and stdout, one JSON document per line: a [`Job`] in,
//! [`Said::Ready`] out, and [`Said::Heard`] after the end of the schedule. It ends with its stdin, so it cannot outlive
//! its parent.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use aether_core::Channel;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::contestant::{AetherReceiver, Contestant, ContestantError, NatsReceiver};
use crate::handler::{Notes, handle};
use crate::losses::Losses;
use crate::outcome::Heard;
use crate::processors::was_left;
use crate::work::Work;

/// The job of a receiving process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) contestant: Contestant,
    pub(crate) channel: String,
    pub(crate) service: Duration,
    pub(crate) notes: Notes,
    /// The processor reserved for the handler, if any.
    pub(crate) processor: Option<usize>,
}

/// A message of a receiving process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Subscribed.
    Ready,
    /// The final result.
    Heard(Heard),
}

/// Why a receiving process failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiverError {
    /// The parent sent no valid job.
    #[error("this command is started by the benchmarks, which send it a job on stdin")]
    Job(#[source] io::Error),
    /// The contestant has no network.
    #[error("{0} does not cross processes")]
    Local(&'static str),
    /// The channel is not valid.
    #[error(transparent)]
    Channel(#[from] aether_core::wave::ChannelError),
    /// The contestant could not start.
    #[error(transparent)]
    Contestant(#[from] ContestantError),
    /// The parent has closed stdout.
    #[error("stdout")]
    Output(#[source] io::Error),
    /// The handler panicked.
    #[error("the handler panicked")]
    Handler(#[from] tokio::task::JoinError),
}

/// Receives the messages of the parent process. Returns early when `stop` is cancelled or stdin ends.
///
/// # Errors
/// [`ReceiverError`] if the job fails.
///
/// # Cancel safety
/// Cancelled before completion, the connection is closed. The handler's thread ends only with `stop`.
pub async fn receive(stop: CancellationToken) -> Result<(), ReceiverError> {
    let stop = stop.child_token();
    let mut lines = stdin(stop.clone());
    let Some(job) = stop.run_until_cancelled(lines.recv()).await.flatten() else {
        return Err(ReceiverError::Job(io::ErrorKind::UnexpectedEof.into()));
    };
    let job: Job = serde_json::from_str(&job).map_err(|error| ReceiverError::Job(error.into()))?;
    was_left(job.processor);
    let losses = Arc::new(Losses::default());
    let (work, channel) = (Work { service: job.service }, Channel::new(&job.channel)?);
    let handling = match &job.contestant {
        Contestant::Aether { address, profile } if job.contestant.crosses_processes() => {
            let hear = AetherReceiver::connect(address, &channel, *profile, &losses).await?;
            handle(hear, work, job.notes, stop.clone())
        }
        Contestant::AsyncNats { url } => {
            handle(NatsReceiver::connect(url, &channel).await?, work, job.notes, stop.clone())
        }
        local => return Err(ReceiverError::Local(local.name())),
    };
    say(&Said::Ready)?;
    let mut heard = handling.await?;
    heard.lost = losses.so_far();
    if stop.is_cancelled() { Ok(()) } else { say(&Said::Heard(heard)) }
}

/// The lines of stdin, read by a detached thread. The end of stdin cancels `stop`.
fn stdin(stop: CancellationToken) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
        stop.cancel();
    });
    lines
}

fn say(said: &Said) -> Result<(), ReceiverError> {
    let mut stdout = io::stdout().lock();
    let mut line = serde_json::to_vec(said).map_err(|error| ReceiverError::Output(error.into()))?;
    line.push(b'\n');
    stdout.write_all(&line).and_then(|()| stdout.flush()).map_err(ReceiverError::Output)
}
