//! The service map as JSON, for programs.

use serde_json::{Value, json};

use super::{Edge, ResonanceMap};
use crate::channel::Channel;

impl ResonanceMap {
    /// The map as JSON: `edges` with `from`, `to`, `emitters`, `handlers`, `tier`, `waves`, `median_lag_ms`, `effect` and
    /// `q_value`; `groups` as lists of channels; `counts` as in [`ResonanceCounts`](crate::physics::ResonanceCounts).
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
