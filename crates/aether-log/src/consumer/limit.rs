//! How many waves of each tenant are delivered.

use std::num::NonZeroU32;
use std::time::Duration;

/// tokio's own far future, so that no instant overflows.
const LONGEST: Duration = Duration::from_secs(86_400 * 365 * 30);

/// A limit on the deliveries to each tenant of a consumer, for [`ConsumerOptions::limit`](crate::ConsumerOptions::limit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    rate: Option<(NonZeroU32, Duration)>,
    at_once: Option<NonZeroU32>,
}

impl Limit {
    /// At most this number of waves is delivered in any stretch of time of this length. They may come together: with 100
    /// in a second up to 100 are delivered at once, with 1 in 10 ms they are spaced. A period of zero limits nothing.
    #[must_use]
    pub fn rate(waves: NonZeroU32, period: Duration) -> Self {
        let rate = (!period.is_zero()).then(|| (waves, period.min(LONGEST)));
        Self { rate, at_once: None }
    }

    /// At most this number of waves is in flight at a time.
    #[must_use]
    pub const fn at_once(waves: NonZeroU32) -> Self {
        Self { rate: None, at_once: Some(waves) }
    }

    /// Both limits. Of two of one kind the second counts.
    pub(super) fn and(self, other: Self) -> Self {
        Self { rate: other.rate.or(self.rate), at_once: other.at_once.or(self.at_once) }
    }

    /// Whether there is one.
    pub(super) const fn is_some(&self) -> bool {
        self.rate.is_some() || self.at_once.is_some()
    }

    /// For how long a wave counts; zero without a rate.
    pub(super) fn period(&self) -> Duration {
        self.rate.map_or(Duration::ZERO, |(_, period)| period)
    }

    /// Whether one more wave may be delivered, with these delivered in the last period and these in flight.
    pub(super) fn allows(&self, delivered: u32, in_flight: u32) -> bool {
        self.rate.is_none_or(|(most, _)| delivered < most.get())
            && self.at_once.is_none_or(|most| in_flight < most.get())
    }
}
