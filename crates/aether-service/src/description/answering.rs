//! Answers questions for the description of a service. The service runs it as a set of handlers of its own.

use std::sync::Arc;

use aether_core::clock::micros_since_1970;
use serde::{Deserialize, Serialize};

use super::model::Description;
use crate::handler::{Json, State};

/// The pattern of all channels on which services answer for their descriptions.
pub const CHANNELS: &str = "aether.descriptions.*";

const PREFIX: &str = "aether.descriptions.";

/// The channel on which the service with this id answers.
#[must_use]
pub fn channel_of(id: u64) -> String {
    format!("{PREFIX}{id:x}")
}

/// The id of the service that answers on a channel.
#[must_use]
pub fn id_of(channel: &str) -> Option<u64> {
    u64::from_str_radix(channel.strip_prefix(PREFIX)?, 16).ok()
}

/// The answer to a question for a description, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DescriptionAnswer {
    /// The clock of the service when it answered, in microseconds since 1970, so that the asker can compare its own.
    pub wall_micros: u64,
    /// The description.
    pub description: Description,
}

/// A service that answers.
#[derive(Debug, Clone)]
pub(crate) struct Announcer(pub(crate) Arc<Description>);

/// The handler.
pub(crate) async fn answer(State(Announcer(description)): State<Announcer>) -> Json<DescriptionAnswer> {
    let description = Description::clone(&description);
    Json(DescriptionAnswer { wall_micros: micros_since_1970(), description })
}
