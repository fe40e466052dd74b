//! To how many inboxes a wave was offered: what a medium says to an emitter, and an emitter to its caller.

use crate::inbox::{Inbox, Offer};
use crate::wave::Wave;

/// What became of a wave that was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The number the wave got.
    pub sequence: u64,
    /// To how many inboxes it was offered; `None` where the medium cannot know. For a question, how many of them could
    /// answer.
    pub receivers: Option<usize>,
}

impl Receipt {
    pub(crate) fn new(sequence: u64, offered: Offered) -> Self {
        Self { sequence, receivers: offered.inboxes() }
    }
}

/// To how many inboxes a medium offered a wave, if it can know that; for a question, how many of them could answer.
///
/// One number, which goes in a register from the inbox up to the emitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offered(usize);

impl Offered {
    /// The medium cannot know.
    pub const UNKNOWN: Self = Self(usize::MAX);

    /// To so many inboxes.
    #[must_use]
    pub const fn to(inboxes: usize) -> Self {
        Self(inboxes)
    }

    /// Puts a wave into the outbox of a medium without waiting: what [`Medium::try_carry`](crate::medium::Medium) does.
    ///
    /// # Errors
    /// The wave, if the outbox is full and its options say that emitters wait.
    pub fn by_outbox(wave: Wave, outbox: &Inbox) -> Result<Self, Wave> {
        outbox.offer(wave, Offer::IfFits).map(|()| Self::UNKNOWN)
    }

    /// How many inboxes it was, if the medium can know.
    #[must_use]
    pub const fn inboxes(self) -> Option<usize> {
        if self.0 == Self::UNKNOWN.0 { None } else { Some(self.0) }
    }
}
