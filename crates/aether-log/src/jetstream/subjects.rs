//! The subjects of a log: below roots of their own, so that no stream captures what other programs publish.

use aether_core::Pattern;

/// The subjects of one log.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    stream: String,
}

impl Subjects {
    pub(crate) fn new(stream: &str) -> Self {
        Self { stream: stream.to_owned() }
    }

    /// The stream of the waves.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// The stream of the dead letters and of the failures that waves had before.
    pub(crate) fn side_stream(&self) -> String {
        format!("{}-dead", self.stream)
    }

    /// The stream of what is delivered later. The stream of the waves takes from it what is due.
    pub(crate) fn schedule_stream(&self) -> String {
        format!("{}-schedules", self.stream)
    }

    /// The stream of the parts of waves that are larger than a message may be.
    pub(crate) fn parts_stream(&self) -> String {
        format!("{}-parts", self.stream)
    }

    /// The parts of waves are below it.
    pub(crate) fn parts(&self) -> String {
        format!("aether-log-part.{}", self.stream)
    }

    /// All that is stored for later, and what is due.
    pub(crate) fn schedules(&self) -> Vec<String> {
        vec![format!("aether-log-schedule.{}.>", self.stream), self.due(">")]
    }

    /// A wave of this identity that was emitted for later.
    pub(crate) fn once(&self, id: u128) -> String {
        format!("aether-log-schedule.{}.once.{id:x}", self.stream)
    }

    /// The schedule of a key, or `*`.
    pub(crate) fn keyed(&self, key: &str) -> String {
        format!("aether-log-schedule.{}.key.{key}", self.stream)
    }

    /// Where the server puts waves of a channel that are due.
    pub(crate) fn due(&self, channel: &str) -> String {
        ["aether-log-due.", &self.stream, ".", channel].concat()
    }

    pub(crate) fn waves(&self) -> String {
        format!("aether-log.{}.>", self.stream)
    }

    /// The subject of the waves of a channel.
    pub(crate) fn wave(&self, channel: &str) -> String {
        ["aether-log.", &self.stream, ".", channel].concat()
    }

    pub(crate) fn filter(&self, pattern: &Pattern) -> String {
        ["aether-log.", &self.stream, ".", pattern.as_str()].concat()
    }

    /// The channel, or the pattern, in a subject or a filter.
    pub(crate) fn name<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix("aether-log.")?.strip_prefix(&*self.stream)?.strip_prefix('.')
    }

    /// The dead letters of a consumer, or of all.
    pub(crate) fn letters(&self, consumer: &str) -> String {
        format!("aether-log-dead.{}.{consumer}.*", self.stream)
    }

    /// A stream that is deleted and made again assigns the same positions, so the identity of the wave is in it as
    /// well.
    pub(crate) fn letter(&self, consumer: &str, position: u64, id: u128) -> String {
        format!("aether-log-dead.{}.{consumer}.{position}-{id:x}", self.stream)
    }

    /// Whether a subject of the stream of the dead letters is the one of a letter, and not of a part of one.
    pub(crate) fn is_letter(subject: &str) -> bool {
        subject.starts_with("aether-log-dead.") && subject.split('.').count() == 4
    }

    /// The failures of a wave so far.
    pub(crate) fn failures(&self, consumer: &str, position: u64, id: u128) -> String {
        format!("aether-log-failed.{}.{consumer}.{position}-{id:x}", self.stream)
    }

    pub(crate) fn beside(&self) -> Vec<String> {
        ["aether-log-dead", "aether-log-failed"].map(|root| format!("{root}.{}.>", self.stream)).to_vec()
    }
}
