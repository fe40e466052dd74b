//! The purposes of sealed frames. Each has a key of its own, so that a frame of one purpose is none of another.

/// The purpose of a sealed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Waves, and the positions of their streams.
    Waves,
    /// Questions, and inquiries whether a channel has receivers.
    Questions,
    /// Answers.
    Answers,
    /// Copies of questions and answers for observers.
    Copies,
    /// Notices of the framework: announcements, floors, pauses, echoes, accounts.
    Control,
    /// Waves, dead letters and failures in a stream that a server keeps. In a folder also snapshots; no address there is a
    /// subject, because it has a space.
    Stored,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 6] =
        [Self::Waves, Self::Questions, Self::Answers, Self::Copies, Self::Control, Self::Stored];

    /// The label from which the key of this role is derived.
    pub(super) const fn label(self) -> &'static [u8] {
        match self {
            Self::Waves => b"waves",
            Self::Questions => b"questions",
            Self::Answers => b"answers",
            Self::Copies => b"copies",
            Self::Control => b"control",
            Self::Stored => b"stored",
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Waves => 0,
            Self::Questions => 1,
            Self::Answers => 2,
            Self::Copies => 3,
            Self::Control => 4,
            Self::Stored => 5,
        }
    }
}
