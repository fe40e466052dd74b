//! Connecting, as every command does that needs a server.

use aether_chassis::{CancellationToken, MediumArgs};
use aether_core::Aether;

use crate::error::CommandError;

/// A connection, unless the command is interrupted before there is one.
pub(crate) async fn connected(
    medium: &MediumArgs,
    client_name: &str,
    shutdown: &CancellationToken,
) -> Result<Aether, CommandError> {
    let connected = medium.connect_until(shutdown, client_name).await?;
    connected.ok_or(CommandError::Interrupted { before: "the server answered" })
}
