//! The account of a consumer.

/// The account of a consumer, in waves: `stored = acknowledged + in_flight + waiting + dead + expired`.
///
/// It survives a restart. Waves further ahead in the log than the window reaches are not in it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ConsumerLedger {
    /// Waves of the log that match its pattern, as far as it has looked.
    pub stored: u64,
    /// Waves that were acknowledged.
    pub acknowledged: u64,
    /// Waves that are delivered and not acknowledged yet.
    pub in_flight: u64,
    /// Waves that wait for their first or next delivery.
    pub waiting: u64,
    /// Waves that were given up and became dead letters.
    pub dead: u64,
    /// Waves that the log dropped, or that cannot be read any more, before they were acknowledged.
    pub expired: u64,
}

impl ConsumerLedger {
    /// Whether the sums agree.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.stored == self.acknowledged + self.in_flight + self.waiting + self.dead + self.expired
    }
}
