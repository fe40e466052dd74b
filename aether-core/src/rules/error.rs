//! Why rules cannot be used.

use crate::channel::ChannelError;

/// Why rules cannot be used. Rules count from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The identity cannot be the name of a vibrator.
    #[error(
        "rule {rule}: {identity:?} is no identity: use the name of a vibrator, NAME* for all that begin so, or * for all"
    )]
    Identity {
        /// The number of the rule.
        rule: usize,
        /// The text.
        identity: String,
    },
    /// A pattern is not valid.
    #[error("rule {rule}, {field}: {pattern:?} is no pattern of channels")]
    Pattern {
        /// The number of the rule.
        rule: usize,
        /// `emit`, `listen`, `deny_emit` or `deny_listen`.
        field: &'static str,
        /// The text.
        pattern: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// A limit is not possible.
    #[error("rule {rule}: {field} must be {allowed}")]
    Limit {
        /// The number of the rule.
        rule: usize,
        /// The name of the limit.
        field: &'static str,
        /// What is possible.
        allowed: &'static str,
    },
    /// A rule says nothing.
    #[error("rule {rule} grants and denies nothing: give it emit, listen, deny_emit or deny_listen")]
    Empty {
        /// The number of the rule.
        rule: usize,
    },
    /// A rule grants what another one, or itself, denies to all that it names, so that the grant has no effect.
    #[error(
        "rule {rule} grants {field} {pattern} to {identity}, and rule {denying} denies all of it: remove one of the two"
    )]
    Contradiction {
        /// The number of the rule that grants.
        rule: usize,
        /// `emit` or `listen`.
        field: &'static str,
        /// The pattern that is granted in vain.
        pattern: String,
        /// Whom the rule names.
        identity: String,
        /// The number of the rule that denies.
        denying: usize,
    },
}
