//! The requests of a client of `/ws`.

use serde::Deserialize;

use super::draft::Draft;
use crate::taps::FilterDraft;

/// A request. `id` is the client's and comes back with every answer to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) op: Op,
    #[serde(default)]
    pub(super) id: u64,
    /// For `token`.
    #[serde(default)]
    pub(super) token: Option<String>,
    /// For `watch` and `unwatch`.
    #[serde(default)]
    pub(super) view: Option<String>,
    /// For `subscribe`.
    #[serde(default)]
    pub(super) filter: FilterDraft,
    /// For `emit` and `ask`.
    #[serde(default)]
    pub(super) wave: Option<Draft>,
    /// For `ask`.
    #[serde(default)]
    pub(super) patience_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op {
    Token,
    Watch,
    Unwatch,
    Subscribe,
    Unsubscribe,
    Emit,
    Ask,
}
