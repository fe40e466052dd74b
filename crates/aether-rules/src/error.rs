//! Why rules cannot be used.

use aether_core::Channel;
use aether_core::wave::ChannelError;

/// Why rules cannot be used. Rules count from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The identity cannot be the name of a vibrator.
    #[error(
        "rule {rule}: {identity:?} is not an identity: use the name of a vibrator, NAME* for all that begin so, or * for all"
    )]
    Identity {
        /// The number of the rule.
        rule: usize,
        /// The text.
        identity: String,
    },
    /// A pattern is not valid.
    #[error("rule {rule}, {field}: {pattern:?} is not a pattern of channels")]
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
    /// A rule has no effect.
    #[error(
        "rule {rule} grants, denies and rewrites nothing: give it emit, listen, deny_emit, deny_listen or rewrite"
    )]
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
    /// A prefix of a rewrite is not a channel.
    #[error("rule {rule}, rewrite: {prefix:?} is not a channel")]
    Prefix {
        /// The number of the rule.
        rule: usize,
        /// The text.
        prefix: String,
        /// What is wrong with it.
        source: ChannelError,
    },
    /// Two rewrites are for the same channels of the same names, so that it is not clear which of them counts.
    #[error(
        "rule {rule} rewrites {from}, and rule {other} rewrites {other_from} of the same names: keep one of the two"
    )]
    Overlap {
        /// The number of the rule.
        rule: usize,
        /// The prefix that it rewrites.
        from: Channel,
        /// The number of the other one, which may be the same rule.
        other: usize,
        /// The prefix that the other one rewrites.
        other_from: Channel,
    },
    /// The result of a rewrite is rewritten again.
    #[error(
        "rule {rule} rewrites to {to}, and rule {other} rewrites {from} of the same names: name the last channel in one rewrite"
    )]
    Loop {
        /// The number of the rule.
        rule: usize,
        /// The prefix that it makes.
        to: Channel,
        /// The number of the other one, which may be the same rule.
        other: usize,
        /// The prefix that the other one rewrites.
        from: Channel,
    },
    /// A rewrite leads where nobody that it is for may emit.
    #[error("rule {rule} rewrites to {to}, where no rule lets {identity} emit: grant it emit {to}.>")]
    Nowhere {
        /// The number of the rule.
        rule: usize,
        /// Whom the rule names.
        identity: String,
        /// The prefix that it makes.
        to: Channel,
    },
}
