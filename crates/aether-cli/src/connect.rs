//! Connects a command to its medium.

use aether_core::{Aether, AetherBuilder};
use aether_service::{CancellationToken, MediumArgs};

use crate::error::CommandError;

/// Connects with default options, unless the command is interrupted first.
pub(crate) async fn connected(
    medium: &MediumArgs,
    client_name: &str,
    shutdown: &CancellationToken,
) -> Result<Aether, CommandError> {
    connected_with(medium, medium.builder(client_name), shutdown).await
}

/// Like [`connected`], with options.
pub(crate) async fn connected_with(
    medium: &MediumArgs,
    builder: AetherBuilder,
    shutdown: &CancellationToken,
) -> Result<Aether, CommandError> {
    let connected = medium.connect_with_until(shutdown, builder).await?;
    connected.ok_or(CommandError::Interrupted { before: "the connection was up" })
}
