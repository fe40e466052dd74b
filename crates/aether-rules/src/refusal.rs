//! Why a wave or a subscription was refused by rules.

use super::action::Action;
use aether_core::Channel;
use aether_core::wave::ChannelError;

/// Why rules refuse something. Rules count from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No rule names the identity.
    #[error("no rule names {identity}")]
    Unknown {
        /// The name.
        identity: String,
    },
    /// No rule grants it.
    #[error("{identity} may not {action} {channel}: it may {action} {}", listed(.granted))]
    NotGranted {
        /// The name.
        identity: String,
        /// The refused action.
        action: Action,
        /// The channel, or the pattern of a subscription.
        channel: String,
        /// The patterns that are granted.
        granted: Vec<String>,
    },
    /// A rule denies it.
    #[error("{identity} may not {action} {channel}: rule {rule} denies {pattern}")]
    Denied {
        /// The name.
        identity: String,
        /// The refused action.
        action: Action,
        /// The channel, or the pattern of a subscription.
        channel: String,
        /// The number of the rule.
        rule: usize,
        /// The pattern that it denies.
        pattern: String,
    },
    /// The wave is too strong.
    #[error("{identity} may emit amplitudes up to {max_amplitude}, not {amplitude}")]
    TooStrong {
        /// The name.
        identity: String,
        /// The amplitude of the wave.
        amplitude: f32,
        /// The largest that is allowed.
        max_amplitude: f32,
    },
    /// The payload is too large.
    #[error("{identity} may emit payloads up to {max_payload} bytes, not {bytes}")]
    TooLarge {
        /// The name.
        identity: String,
        /// The size of the payload.
        bytes: usize,
        /// The largest that is allowed.
        max_payload: usize,
    },
    /// Too many waves in a second.
    #[error("{identity} may emit {max_rate} waves a second")]
    TooFast {
        /// The name.
        identity: String,
        /// The largest rate that is allowed, in waves a second.
        max_rate: u32,
    },
    /// The payload is nested too deeply.
    #[error(
        "{identity} may emit JSON nested up to {max_depth} deep: byte {place} of the payload begins one more"
    )]
    TooDeep {
        /// The name.
        identity: String,
        /// The greatest depth that is allowed.
        max_depth: usize,
        /// The offset of the first bracket that is too deep.
        place: usize,
    },
    /// The channel that a rewrite makes is none: it is too long.
    #[error("the rules make no channel of {channel}")]
    Unwritable {
        /// The channel.
        channel: Channel,
        /// What is wrong with the other one.
        source: ChannelError,
    },
    /// The payload does not fit the schema of the channel, or is not JSON.
    #[error("the payload for {channel} does not fit its schema at {place}: {problem}")]
    Misfit {
        /// The channel.
        channel: String,
        /// The place in the payload, as a JSON pointer (RFC 6901), or the line and column if it is not JSON.
        place: String,
        /// What is wrong there, at most 200 characters. It may quote the payload.
        problem: String,
    },
}

impl Refusal {
    /// Whether the same may be allowed a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::TooFast { .. })
    }
}

fn listed(patterns: &[String]) -> String {
    if patterns.is_empty() { "nothing".to_owned() } else { patterns.join(", ") }
}
