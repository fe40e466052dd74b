//! The service map as Mermaid, which many forges draw within Markdown.

use std::fmt::Write;

use super::{ResonanceMap, Tier};

impl ResonanceMap {
    /// The map as a Mermaid flowchart. Exact edges are solid, edges by timing are dotted, and groups are frames.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let channels = self.channels();
        let mut chart = String::from("flowchart LR\n");
        for (index, channel) in channels.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(chart, "  n{index}[\"{}\"]", escaped(channel.as_str()));
        }
        for edge in &self.edges {
            let (from, to) = (super::place(&channels, &edge.from), super::place(&channels, &edge.to));
            let label = escaped(&edge.label());
            let arrow = if edge.tier == Tier::Cause { "-->" } else { "-.->" };
            let _ = writeln!(chart, "  n{from} {arrow}|\"{label}\"| n{to}");
        }
        for (number, group) in self.groups.iter().enumerate() {
            let _ = writeln!(chart, "  subgraph g{number}[\"{}\"]", Tier::Group);
            for channel in &group.channels {
                let _ = writeln!(chart, "    n{}", super::place(&channels, channel));
            }
            chart.push_str("  end\n");
        }
        chart
    }
}

/// Mermaid has no escape for a quote, and parses Markdown, HTML and its own entities within quotes. Every character not
/// known to be harmless is therefore written as the entity of its code.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_alphanumeric() || matches!(character, ' ' | '.' | '-' | '×') {
            escaped.push(character);
        } else {
            let _ = write!(escaped, "#{};", u32::from(character));
        }
    }
    escaped
}
