//! The time that all agree on, told from this machine's monotonic clock and a measured offset.
//!
//! Pure: timestamps come in, in nanoseconds. The offset is found as NTP does it, by four timestamps of an exchange; of
//! several exchanges the one that took least counts, because what is left to doubt is half of its round trip.
//! Source: RFC 5905, sections 8 and 10.

/// A monotonic clock runs wrong by so much at most. Source: crystals are specified to 100 ppm, and there are two.
const DRIFT_PPM: u64 = 200;

/// One question for the time and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    /// When it was asked, by the monotonic clock of who asks.
    pub(super) asked: u64,
    /// When the question came, by the clock of who answers.
    pub(super) received: u64,
    /// When the answer left, by the same.
    pub(super) answered: u64,
    /// When the answer came, by the monotonic clock of who asks.
    pub(super) returned: u64,
}

impl Exchange {
    /// How long it was on its ways; nothing for times that cannot be.
    fn on_the_way(self) -> Option<u64> {
        let thought = self.answered.checked_sub(self.received)?;
        self.returned.checked_sub(self.asked)?.checked_sub(thought)
    }
}

/// The offset to the agreed time, and how far it may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    /// Agreed time minus our monotonic time.
    nanos: i128,
    /// At most so wrong when it was measured.
    error: u64,
    /// When that was, by our monotonic clock.
    measured: u64,
}

impl Offset {
    /// An offset that is known by other means.
    pub(super) fn known(agreed: u64, monotonic: u64, error: u64) -> Self {
        Self { nanos: i128::from(agreed) - i128::from(monotonic), error, measured: monotonic }
    }

    /// The offset by the exchange that took least; nothing if none of them can be.
    pub(super) fn of(exchanges: &[Exchange]) -> Option<Self> {
        let timed = exchanges.iter().filter_map(|exchange| Some((exchange.on_the_way()?, exchange)));
        let (took, best) = timed.min_by_key(|(took, _)| *took)?;
        let there = i128::from(best.received) - i128::from(best.asked);
        let back = i128::from(best.answered) - i128::from(best.returned);
        Some(Self { nanos: (there + back) / 2, error: took / 2 + 1, measured: best.returned })
    }

    /// The agreed time. Never before 1970.
    pub(super) fn agreed(self, monotonic: u64) -> u64 {
        u64::try_from((i128::from(monotonic) + self.nanos).max(0)).unwrap_or(u64::MAX)
    }

    /// When our monotonic clock shows an agreed time.
    pub(super) fn monotonic(self, agreed: u64) -> u64 {
        u64::try_from((i128::from(agreed) - self.nanos).max(0)).unwrap_or(u64::MAX)
    }

    /// How far it may be wrong by now.
    pub(super) fn error(self, monotonic: u64) -> u64 {
        let since = monotonic.saturating_sub(self.measured);
        self.error.saturating_add(since / 1_000_000 * DRIFT_PPM)
    }

    /// By how much the agreed time changes with a newer offset.
    pub(super) fn step_to(self, newer: Self) -> u64 {
        u64::try_from(self.nanos.abs_diff(newer.nanos)).unwrap_or(u64::MAX)
    }

    pub(super) fn shifted(self, nanos: i64) -> Self {
        Self { nanos: self.nanos + i128::from(nanos), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        /// An exchange with a clock that is `offset` ahead.
        fn an_exchange(offset: i64)(
            asked in 1_u64 << 61..1 << 62, there in 0..1_u64 << 40, thought in 0..1_u64 << 30, back in 0..1_u64 << 40,
        ) -> Exchange {
            let received = (asked + there).saturating_add_signed(offset);
            Exchange { asked, received, answered: received + thought, returned: asked + there + thought + back }
        }
    }

    proptest! {
        #[test]
        fn the_offset_is_found_up_to_the_error_that_is_said(
            (offset, exchanges) in (-(1_i64 << 60)..1 << 60)
                .prop_flat_map(|offset| (Just(offset), prop::collection::vec(an_exchange(offset), 1..9))),
            now in 1_u64 << 61..1 << 62,
        ) {
            let found = Offset::of(&exchanges).unwrap();
            let truth = now.saturating_add_signed(offset);
            prop_assert!(found.agreed(now).abs_diff(truth) <= found.error(now.min(found.measured)));
            prop_assert!(found.error <= exchanges.iter().filter_map(|e| e.on_the_way()).min().unwrap() / 2 + 1);
            prop_assert_eq!(found.monotonic(found.agreed(now)), now);
        }
    }

    #[test]
    fn times_that_cannot_be_are_left_out() {
        let fine = Exchange { asked: 100, received: 1_100, answered: 1_200, returned: 300 };
        let answered_before_it_came = Exchange { answered: 1_000, ..fine };
        let back_before_it_was_asked = Exchange { returned: 50, ..fine };
        let thought_longer_than_it_took = Exchange { answered: 2_000, ..fine };
        let bad = [answered_before_it_came, back_before_it_was_asked, thought_longer_than_it_took];
        assert_eq!(Offset::of(&bad), None);
        assert_eq!(Offset::of(&[&bad[..], &[fine]].concat()), Offset::of(&[fine]));
        assert_eq!(Offset::of(&[fine]).unwrap().agreed(200), 1_150);
    }

    #[test]
    fn the_error_grows_while_nothing_is_measured() {
        let offset = Offset::known(1 << 60, 0, 1_000);
        assert_eq!(offset.error(0), 1_000);
        // 200 microseconds a second.
        assert_eq!(offset.error(1_000_000_000), 201_000);
    }
}
