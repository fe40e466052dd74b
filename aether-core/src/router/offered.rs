//! The number of inboxes a wave was offered to: what a medium reports to an emitter, and an emitter to its caller.

use super::stored::Stored;
use crate::inbox::{Inbox, Offer};
use crate::wave::Wave;

/// The result of an emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The sequence number of the wave.
    pub sequence: u64,
    /// The number of inboxes the wave was offered to, or `None` if the medium cannot know. For a question, the number
    /// of those that could answer.
    pub receivers: Option<usize>,
    /// The place of the wave in a log, if its channel is durable.
    pub stored: Option<Stored>,
}

impl Receipt {
    pub(crate) fn new(sequence: u64, offered: Offered) -> Self {
        Self { sequence, receivers: offered.inboxes(), stored: None }
    }

    /// Of a wave that had to wait.
    pub(crate) fn of(sequence: u64, Settled { offered, stored }: Settled) -> Self {
        Self { stored, ..Self::new(sequence, offered) }
    }
}

/// How a wave fared that had to wait, or to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The number of inboxes that it was offered to.
    pub offered: Offered,
    /// Its place in a log, if it was stored.
    pub stored: Option<Stored>,
}

impl From<Offered> for Settled {
    fn from(offered: Offered) -> Self {
        Self { offered, stored: None }
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

    /// Puts a wave into the outbox of a medium without waiting, as [`Medium::try_carry`](crate::medium::Medium) requires.
    ///
    /// # Errors
    /// The wave, if the outbox is full and its options make emitters wait.
    pub fn by_outbox(wave: Wave, outbox: &Inbox) -> Result<Self, Wave> {
        outbox.offer(wave, Offer::IfFits).map(|()| Self::UNKNOWN)
    }

    /// The number of inboxes, if the medium can know it.
    #[must_use]
    pub const fn inboxes(self) -> Option<usize> {
        if self.0 == Self::UNKNOWN.0 { None } else { Some(self.0) }
    }
}
