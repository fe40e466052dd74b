//! The end of a command that reads a log, by Ctrl-C.

use aether_service::CancellationToken;

use crate::error::CommandError;

/// Ends a command when it is interrupted.
pub(super) async fn until(
    command: impl Future<Output = Result<(), CommandError>>,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    tokio::select! {
        done = command => done,
        () = shutdown.cancelled() => Err(CommandError::Interrupted { before: "the end of the log" }),
    }
}
