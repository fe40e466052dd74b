//! The service map as Graphviz DOT: `dot -Tsvg`.

use std::fmt::Write;

use super::{ResonanceMap, Tier};
use crate::duration::brief;

impl ResonanceMap {
    /// The map in the language of Graphviz. Nodes are channels; edges carry tier, lag and effect. Exact edges
    /// are solid, edges by timing are dashed, and groups are dotted frames.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let channels = self.channels();
        let mut dot = String::from("digraph resonance {\n  rankdir=LR;\n  node [shape=box];\n");
        for (index, channel) in channels.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(dot, "  n{index} [label=\"{}\"];", escaped(channel.as_str()));
        }
        for edge in &self.edges {
            let (from, to) = (super::place(&channels, &edge.from), super::place(&channels, &edge.to));
            let label = escaped(&edge.label());
            let style = if edge.tier == Tier::Cause { "solid" } else { "dashed" };
            let tooltip = escaped(&edge.handlers.join(", "));
            let comment = format!(
                "{:.0} % sure, seen from {} to {} ago",
                100.0 * edge.confidence,
                brief(edge.first_seen_ago),
                brief(edge.last_seen_ago)
            );
            let _ = writeln!(
                dot,
                "  n{from} -> n{to} [label=\"{label}\", style={style}, tooltip=\"{tooltip}\", comment=\"{comment}\"];"
            );
        }
        for (number, group) in self.groups.iter().enumerate() {
            let _ = write!(dot, "  subgraph cluster_{number} {{ style=dotted; label=\"{}\";", Tier::Group);
            for channel in &group.channels {
                let _ = write!(dot, " n{};", super::place(&channels, channel));
            }
            dot.push_str(" }\n");
        }
        dot.push_str("}\n");
        dot
    }
}

/// In a label, `\` begins an escape and `"` ends the text.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
