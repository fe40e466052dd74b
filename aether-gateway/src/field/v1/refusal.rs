//! Why a request is refused.

use std::time::Duration;

use crate::field::counts::Refused;

/// A request is refused.
pub(super) struct Refusal {
    pub(super) refused: Refused,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// The same write may be taken after this time.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(refused: Refused, code: &'static str, message: impl Into<String>) -> Self {
        Self { refused, code, message: message.into(), retry_after: None }
    }

    /// The request is not of the protocol.
    pub(super) fn json(message: impl Into<String>) -> Self {
        Self::new(Refused::Json, "json", message)
    }
}
