//! The account of an outbox.

use std::fmt;

/// The account of an outbox, in waves: `committed = relayed + waiting + refused + dropped`. It survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OutboxLedger {
    /// Waves that were committed with a change.
    pub committed: u64,
    /// Waves that the bus, or the log of a durable channel, has confirmed.
    pub relayed: u64,
    /// Waves that wait for the relay.
    pub waiting: u64,
    /// Waves that the bus will never take, for example because they are too large for it. They are kept.
    pub refused: u64,
    /// Refused waves that somebody has dropped.
    pub dropped: u64,
}

impl OutboxLedger {
    /// Whether the sums agree.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.committed == self.relayed + self.waiting + self.refused + self.dropped
    }
}

impl fmt::Display for OutboxLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { committed, relayed, waiting, refused, dropped } = self;
        write!(
            f,
            "outbox: {committed} waves committed = {relayed} relayed + {waiting} waiting + {refused} refused \
             + {dropped} dropped"
        )
    }
}
