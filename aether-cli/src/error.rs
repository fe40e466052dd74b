//! Why a command failed, and whether its usage was wrong.

#[cfg(feature = "bench")]
mod bench;

use std::io;

#[cfg(feature = "bench")]
use aether_bench::FloodError;
use aether_chassis::LostWaves;
use aether_core::{
    AskError, ConnectError, CreateError, EchoReason, EmitError, JoinError, WaveError, echo::EchoesError,
    physics::ObserveError,
};
use aether_gateway::{GatewayError, StartError};
use aether_service_alpha::AlphaError;
use aether_service_beta::BetaError;

#[cfg(feature = "bench")]
pub(crate) use bench::BenchError;

use crate::stdin::StdinError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(
        "the local medium lives inside one process, and this process is alone: nobody would {nobody_would}. Start a \
         NATS server and add --medium nats://127.0.0.1:4222 here and wherever else it shall be heard, or set \
         AETHER_MEDIUM. (`aether up` shows a whole system in one process.)"
    )]
    Alone { nobody_would: &'static str },
    #[error(transparent)]
    Lost(#[from] LostWaves),
    #[error("{missed} waves that were sent here were not printed")]
    Missed { missed: u64 },
    #[error("{back} of {waves} waves came back: {hint} ({reason})")]
    CameBack { back: u64, waves: u64, reason: EchoReason, hint: String },
    #[error("interrupted before {before}")]
    Interrupted { before: &'static str },
    #[error("--count repeats a payload that is an argument: stdin is read to its end")]
    CountOfStdin,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no vibrator")]
    Create(#[from] CreateError),
    #[error("nothing can be observed")]
    Observe(#[from] ObserveError),
    #[error("nothing can be heard")]
    Join(#[from] JoinError),
    #[error(transparent)]
    Wave(#[from] WaveError),
    #[error("the wave was not emitted")]
    Emit(#[from] EmitError),
    #[error("what comes back cannot be heard")]
    Echoes(#[from] EchoesError),
    #[error("line {line} of stdin was not emitted")]
    EmitLine { line: u64, source: EmitError },
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Stdin(#[from] StdinError),
    #[error("stdout")]
    Output(#[from] io::Error),
    #[error("the gateway did not start")]
    Start(#[from] StartError),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error(transparent)]
    Alpha(#[from] AlphaError),
    #[error(transparent)]
    Beta(#[from] BetaError),
    #[cfg(feature = "bench")]
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[cfg(feature = "bench")]
    #[error(transparent)]
    Flood(#[from] FloodError),
    #[error("a service broke down")]
    Task(#[from] tokio::task::JoinError),
}

impl CommandError {
    /// Whether the arguments were wrong, in a way that the argument parser cannot know.
    pub(crate) fn is_wrong_usage(&self) -> bool {
        match self {
            Self::Alone { .. } | Self::CountOfStdin => true,
            Self::Connect(error)
            | Self::Gateway(GatewayError::Connect(error))
            | Self::Alpha(AlphaError::Connect(error))
            | Self::Beta(BetaError::Connect(error)) => !matches!(error, ConnectError::Unreachable { .. }),
            #[cfg(feature = "bench")]
            Self::Bench(error) => error.is_wrong_usage(),
            _ => false,
        }
    }

    /// Whether the reader of stdout has gone away, as `head` does when it has its lines.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Output(error)
            | Self::Gateway(GatewayError::Output(error))
            | Self::Alpha(AlphaError::Output(error))
            | Self::Beta(BetaError::Output(error)) => error.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}
