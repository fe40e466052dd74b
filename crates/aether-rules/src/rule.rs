//! One rule, as it is written.

use serde::{Deserialize, Serialize};

/// The permissions of an identity. All that is not granted by any rule that names an identity is refused to it; what a
/// rule denies is refused whatever others grant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Rule {
    /// The name of a vibrator or emitter; `sensor-*` for all that begin so, `*` for all.
    pub identity: String,
    /// The patterns of channels on which it may emit and ask.
    pub emit: Vec<String>,
    /// The patterns to which it may listen.
    pub listen: Vec<String>,
    /// The patterns of channels on which it may not emit.
    pub deny_emit: Vec<String>,
    /// The patterns to which it may not listen.
    pub deny_listen: Vec<String>,
    /// The prefixes of channels that become others as it emits. All patterns of rules are about the channels that they
    /// become.
    pub rewrite: Vec<Rewrite>,
    /// The largest amplitude of what it emits, above 0 and at most 1.
    pub max_amplitude: Option<f32>,
    /// The amplitude to which what it emits is weakened where it is stronger, above 0 and at most 1.
    pub clamp_amplitude: Option<f32>,
    /// The largest payload of what it emits, in bytes.
    pub max_payload: Option<usize>,
    /// How many waves each name may emit a second: at the emitter in a process, with a second's worth at once; at a
    /// receiver for each subscription, with ten seconds' worth at once, because what waited for a connection comes
    /// together.
    pub max_rate: Option<u32>,
    /// How deeply JSON may be nested: the number of arrays and objects around a value. 0 for none.
    pub max_depth: Option<usize>,
}

/// A prefix of channels that becomes another one: `a` to `x.y` makes `x.y` of `a`, and `x.y.b` of `a.b`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// The prefix inside, whole tokens of a channel.
    pub from: String,
    /// The prefix with which the waves leave.
    pub to: String,
}

fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

impl Rule {
    /// A rule that grants nothing yet.
    #[must_use]
    pub fn new(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), ..Self::default() }
    }

    /// Grants emitting on channels that match these patterns.
    #[must_use]
    pub fn emit<T: Into<String>>(mut self, patterns: impl IntoIterator<Item = T>) -> Self {
        self.emit = texts(patterns);
        self
    }

    /// Grants listening to these patterns, and to those that they cover.
    #[must_use]
    pub fn listen<T: Into<String>>(mut self, patterns: impl IntoIterator<Item = T>) -> Self {
        self.listen = texts(patterns);
        self
    }

    /// Refuses emitting on channels that match these patterns.
    #[must_use]
    pub fn deny_emit<T: Into<String>>(mut self, patterns: impl IntoIterator<Item = T>) -> Self {
        self.deny_emit = texts(patterns);
        self
    }

    /// Refuses listening to patterns that overlap with these.
    #[must_use]
    pub fn deny_listen<T: Into<String>>(mut self, patterns: impl IntoIterator<Item = T>) -> Self {
        self.deny_listen = texts(patterns);
        self
    }

    /// Moves waves from the channels of one prefix to the channels of another as they are emitted. Grants are about the
    /// channels that result.
    #[must_use]
    pub fn rewrite(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.rewrite.push(Rewrite { from: from.into(), to: to.into() });
        self
    }

    /// The largest amplitude of what it emits, above 0 and at most 1.
    #[must_use]
    pub const fn max_amplitude(mut self, amplitude: f32) -> Self {
        self.max_amplitude = Some(amplitude);
        self
    }

    /// Weakens what it emits to this amplitude where it is stronger, above 0 and at most 1.
    #[must_use]
    pub const fn clamp_amplitude(mut self, amplitude: f32) -> Self {
        self.clamp_amplitude = Some(amplitude);
        self
    }

    /// The largest payload of what it emits, in bytes.
    #[must_use]
    pub const fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = Some(bytes);
        self
    }

    /// How many waves each name may emit a second.
    #[must_use]
    pub const fn max_rate(mut self, waves: u32) -> Self {
        self.max_rate = Some(waves);
        self
    }

    /// How deeply JSON may be nested.
    #[must_use]
    pub const fn max_depth(mut self, depth: usize) -> Self {
        self.max_depth = Some(depth);
        self
    }
}
