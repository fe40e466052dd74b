//! The service map as JSON, for programs.

use serde_json::{Value, json};

use super::{Edge, ResonanceMap};
use aether_core::Channel;

impl ResonanceMap {
    /// The map as JSON: `edges` with `from`, `to`, `emitters`, `handlers`, `tier`, `waves`, `median_lag_ms`, `effect`,
    /// `q_value`, `confidence`, `first_seen_seconds_ago`, `last_seen_seconds_ago`, `waves_a_second`,
    /// `from_waves_a_second` and `to_waves_a_second`; `groups` as lists of channels; `counts` as in
    /// [`ResonanceCounts`](crate::ResonanceCounts).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let edge = |edge: &Edge| {
            json!({
                "from": edge.from.as_str(),
                "to": edge.to.as_str(),
                "emitters": edge.emitters,
                "handlers": edge.handlers,
                "tier": edge.tier,
                "waves": edge.waves,
                "median_lag_ms": edge.median_lag.as_secs_f64() * 1e3,
                "effect": edge.effect,
                "q_value": edge.q_value,
                "confidence": edge.confidence,
                "first_seen_seconds_ago": edge.first_seen_ago.as_secs_f64(),
                "last_seen_seconds_ago": edge.last_seen_ago.as_secs_f64(),
                "waves_a_second": edge.rate,
                "from_waves_a_second": edge.from_rate,
                "to_waves_a_second": edge.to_rate,
            })
        };
        let names = |channels: &[Channel]| channels.iter().map(Channel::to_string).collect::<Vec<_>>();
        json!({
            "edges": self.edges.iter().map(edge).collect::<Vec<_>>(),
            "groups": self.groups.iter().map(|group| names(&group.channels)).collect::<Vec<_>>(),
            "counts": self.counts,
        })
    }
}
