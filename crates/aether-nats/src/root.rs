//! The roots of subjects: what kind of message travels where.

/// The root of the subjects of one kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// `prefix.channel`: waves, and questions from foreign requesters.
    Waves,
    /// `prefix-ask.channel`: questions, and inquiries about whether a channel has listeners. Potential answerers
    /// subscribe to it.
    Questions,
    /// `prefix-seen.channel`: copies of questions and answers. Observers subscribe to it.
    Seen,
}

impl Root {
    pub(super) const fn as_suffix(self) -> &'static str {
        match self {
            Self::Waves => "",
            Self::Questions => "-ask",
            Self::Seen => "-seen",
        }
    }
}
