//! The result of an emit: what a medium reports to an emitter, and an emitter to its caller.

use super::Waiting;

/// The result of an emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The sequence number of the wave.
    pub sequence: u64,
    /// The number of inboxes the wave was offered to, or `None` if the medium cannot know. For a question, the number
    /// of those that could answer.
    pub receivers: Option<usize>,
}

impl Receipt {
    pub(crate) fn new(sequence: u64, offered: Offered) -> Self {
        Self { sequence, receivers: offered.inboxes() }
    }
}

/// The number of inboxes a wave was offered to, if the medium can know it; for a question, the number of those that
/// could answer.
///
/// A single number, returned in a register from the inbox up to the emitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offered(usize);

impl Offered {
    /// The medium cannot know.
    pub const UNKNOWN: Self = Self(usize::MAX);

    /// Offered to this many inboxes.
    #[must_use]
    pub const fn to(inboxes: usize) -> Self {
        Self(inboxes)
    }

    /// The number of inboxes, if the medium can know it.
    #[must_use]
    pub const fn inboxes(self) -> Option<usize> {
        if self.0 == Self::UNKNOWN.0 { None } else { Some(self.0) }
    }
}

/// The result of carrying a wave.
#[derive(Debug)]
pub enum Carried {
    /// The wave was offered to all inboxes.
    Done(Offered),
    /// Some inboxes have no room; [`Waiting::finish`] waits for them.
    Waiting(Waiting),
}
