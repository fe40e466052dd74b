//! Rules as text: one line for each, as in a configuration.

use std::fmt;
use std::str::FromStr;

use super::rule::{Rewrite, Rule};

/// The form of a rule as text.
const FORM: &str = "IDENTITY: emit PATTERN, PATTERN; listen PATTERN; deny emit PATTERN; deny listen PATTERN; \
                    rewrite CHANNEL -> CHANNEL; max_amplitude 0.8; clamp_amplitude 0.5; max_payload 65536; max_rate 1000; \
                    max_depth 32";

/// A text that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a rule at {at:?}: write {FORM}, with those parts that are needed")]
pub struct RuleTextError {
    /// The text.
    pub text: String,
    /// The part that is wrong.
    pub at: String,
}

/// The effect of a part of a rule.
enum Part {
    Patterns(fn(&mut Rule) -> &mut Vec<String>),
    Rewrites,
    Amplitude(fn(&mut Rule) -> &mut Option<f32>),
    Size(fn(&mut Rule) -> &mut Option<usize>),
    Rate,
}

const PARTS: [(&str, Part); 10] = [
    ("emit ", Part::Patterns(|rule| &mut rule.emit)),
    ("listen ", Part::Patterns(|rule| &mut rule.listen)),
    ("deny emit ", Part::Patterns(|rule| &mut rule.deny_emit)),
    ("deny listen ", Part::Patterns(|rule| &mut rule.deny_listen)),
    ("rewrite ", Part::Rewrites),
    ("max_amplitude ", Part::Amplitude(|rule| &mut rule.max_amplitude)),
    ("clamp_amplitude ", Part::Amplitude(|rule| &mut rule.clamp_amplitude)),
    ("max_payload ", Part::Size(|rule| &mut rule.max_payload)),
    ("max_rate ", Part::Rate),
    ("max_depth ", Part::Size(|rule| &mut rule.max_depth)),
];

/// Reads one part. `None` if it is none.
fn read(rule: &mut Rule, text: &str) -> Option<()> {
    let (part, value) =
        PARTS.iter().find_map(|(name, part)| Some((part, text.strip_prefix(name)?.trim())))?;
    match part {
        Part::Patterns(of) => {
            let patterns = value.split(',').map(|pattern| pattern.trim().to_owned());
            of(rule).extend(patterns);
            Some(())
        }
        Part::Rewrites => {
            for text in value.split(',') {
                let (from, to) = text.split_once("->")?;
                rule.rewrite.push(Rewrite { from: from.trim().to_owned(), to: to.trim().to_owned() });
            }
            Some(())
        }
        Part::Amplitude(of) => value.parse().ok().and_then(|value| set(of(rule), value)),
        Part::Size(of) => value.parse().ok().and_then(|value| set(of(rule), value)),
        Part::Rate => value.parse().ok().and_then(|value| set(&mut rule.max_rate, value)),
    }
}

/// Sets a limit, unless it was set.
fn set<T>(limit: &mut Option<T>, value: T) -> Option<()> {
    limit.replace(value).is_none().then_some(())
}

/// Reads a rule such as `billing: emit invoices.>; listen orders.>; max_amplitude 0.8`. Patterns and identities are checked
/// by [`Rules::new`](super::Rules::new).
impl FromStr for Rule {
    type Err = RuleTextError;
    fn from_str(text: &str) -> Result<Self, RuleTextError> {
        let wrong = |at: &str| RuleTextError { text: text.to_owned(), at: at.trim().to_owned() };
        let (identity, parts) = text.split_once(':').ok_or_else(|| wrong(text))?;
        let mut rule = Self::new(identity.trim());
        for part in parts.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            read(&mut rule, part).ok_or_else(|| wrong(part))?;
        }
        Ok(rule)
    }
}

/// As it is read.
impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{from} -> {to}")
    }
}

/// As it is read.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.identity)?;
        let patterns = [
            ("emit", &self.emit),
            ("listen", &self.listen),
            ("deny emit", &self.deny_emit),
            ("deny listen", &self.deny_listen),
        ];
        let mut separator = "";
        for (name, patterns) in patterns.iter().filter(|(_, patterns)| !patterns.is_empty()) {
            write!(f, "{separator} {name} {}", patterns.join(", "))?;
            separator = ";";
        }
        if !self.rewrite.is_empty() {
            let rewrites: Vec<_> = self.rewrite.iter().map(ToString::to_string).collect();
            write!(f, "{separator} rewrite {}", rewrites.join(", "))?;
            separator = ";";
        }
        let limits = [
            ("max_amplitude", self.max_amplitude.map(|most| most.to_string())),
            ("clamp_amplitude", self.clamp_amplitude.map(|most| most.to_string())),
            ("max_payload", self.max_payload.map(|most| most.to_string())),
            ("max_rate", self.max_rate.map(|most| most.to_string())),
            ("max_depth", self.max_depth.map(|most| most.to_string())),
        ];
        for (name, limit) in limits {
            if let Some(limit) = limit {
                write!(f, "{separator} {name} {limit}")?;
                separator = ";";
            }
        }
        Ok(())
    }
}
