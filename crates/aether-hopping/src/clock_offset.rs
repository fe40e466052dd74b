//! The offset of the monotonic clock to the agreed time of a key. Ordinary term: time synchronisation by request and
//! reply.
//!
//! One process, the keeper, runs the clock of a key. The others query it on a reserved channel whose name is derived
//! from the key. A measurement takes eight queries. Each carries a random number, and the seal of the answer covers it.
//!
//! The offset is computed as in NTP, from the four timestamps of an exchange, in nanoseconds. The exchange with the
//! shortest round trip is used, because the remaining error is half of the round trip.
//! Source: RFC 5905, sections 8 and 10.

use std::time::Duration;

use aether_core::bus::Bus;
use aether_core::clock::{self, Instant};
use aether_core::medium::Sequencer;
use aether_core::{AskError, Channel, Source, Wave};

use crate::hop::Hop;
use crate::sequence::letters;

/// The maximum drift between two monotonic clocks. Source: crystals are specified to 100 ppm, and two are involved.
const DRIFT_PPM: u64 = 200;
/// The number of exchanges in one measurement.
const EXCHANGES: usize = 8;
const PATIENCE: Duration = Duration::from_millis(500);
pub(crate) const QUESTION_BYTES: usize = 16;
/// Two timestamps of 8 bytes each, and a seal.
const ANSWER_BYTES: usize = 16 + 16;
/// A time in the year 2262. Later times are rejected, so slot numbers cannot overflow.
const LATEST: u64 = i64::MAX as u64;

/// Error for a clock that cannot be used for hopping.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// No keeper of this key's clock answered the query.
    #[error(
        "no process keeps the clock of this key: call ClockKeeper::start in one process, or HopBuilder::trust_clock in all"
    )]
    Unkept(#[source] AskError),
    /// The answers were not sealed with the key, or contained impossible times.
    #[error(
        "the answers of the clock keeper are not sealed with this key or contain impossible times: use the same key everywhere"
    )]
    Implausible,
    /// The error of the clock is more than half of the guard.
    #[error(
        "the clock may be wrong by {error:?}, more than half of the guard of {guard:?}: use a longer guard or a better clock"
    )]
    TooFarOff {
        /// The error of the clock.
        error: Duration,
        /// The guard.
        guard: Duration,
    },
    /// The clock went back to slots whose keys were deleted.
    #[error("the clock went back to slots whose keys were deleted: build the hop again if that is intended")]
    Forgotten,
}

/// The channel of time queries.
pub(crate) fn clock_channel(hop: &Hop) -> Result<Channel, ClockError> {
    let name = hop.sequence_of().of_clock(b"name", &[]).ok_or(ClockError::Implausible)?;
    let letters = letters(&name);
    let letters = std::str::from_utf8(&letters).unwrap_or_default();
    Channel::with_reserved(&format!("_aether.clock.{letters}")).map_err(|_| ClockError::Implausible)
}

/// The seal of an answer. It proves that the answer was made with the key, for this question.
pub(crate) fn seal(hop: &Hop, question: &[u8], times: &[u8]) -> Option<[u8; 16]> {
    hop.sequence_of().of_clock(b"seal", &[question, times].concat())?.first_chunk().copied()
}

/// Measures the offset to the clock keeper. `monotonic` converts an instant to monotonic time.
pub(crate) async fn measure(
    bus: &Bus,
    hop: &Hop,
    monotonic: impl Fn(Instant) -> u64,
) -> Result<Offset, ClockError> {
    let channel = clock_channel(hop)?;
    let sequencer = Sequencer::new(Source::framework());
    let mut exchanges = Vec::with_capacity(EXCHANGES);
    let mut refused = None;
    for _ in 0..EXCHANGES {
        // Hashed with the key, because the output of the generator is predictable. An attacker who predicts a question
        // could replay an old answer.
        let drawn = fastrand::u128(..).to_be_bytes();
        let nonce = hop.sequence_of().of_clock(b"once", &drawn).ok_or(ClockError::Implausible)?;
        let nonce = nonce[..QUESTION_BYTES].to_vec();
        let question = Wave::from_bytes(channel.clone(), nonce.clone());
        // Cannot fail: the channel is valid.
        let question = question.map_err(|_| ClockError::Implausible)?.noticed(&sequencer);
        let asked = monotonic(clock::now());
        match bus.medium().ask(question, PATIENCE).await {
            Ok(answer) => {
                let returned = monotonic(clock::now());
                exchanges.extend(read(hop, &nonce, answer.payload(), asked, returned));
            }
            // Further questions would fail in the same way.
            Err(error @ (AskError::NoResonator { .. } | AskError::Emit(_))) => {
                return Err(ClockError::Unkept(error));
            }
            Err(error) => refused = Some(error),
        }
    }
    match (Offset::of(&exchanges), refused) {
        (Some(offset), _) => Ok(offset),
        (None, Some(error)) => Err(ClockError::Unkept(error)),
        (None, None) => Err(ClockError::Implausible),
    }
}

/// Parses an answer. Returns `None` unless it is sealed for this question.
fn read(hop: &Hop, question: &[u8], answer: &[u8], asked: u64, returned: u64) -> Option<Exchange> {
    let answer: &[u8; ANSWER_BYTES] = answer.try_into().ok()?;
    let (times, sealed) = answer.split_at(16);
    if seal(hop, question, times)? != sealed {
        return None;
    }
    let time = |at: usize| times[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let exchange = Exchange { asked, received: time(0), answered: time(8), returned };
    (exchange.answered <= LATEST).then_some(exchange)
}

/// The timestamps of one time query and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exchange {
    /// When the question left, by the monotonic clock of the asker.
    asked: u64,
    /// When the question arrived, by the clock of the keeper.
    received: u64,
    /// When the answer left, by the clock of the keeper.
    answered: u64,
    /// When the answer arrived, by the monotonic clock of the asker.
    returned: u64,
}

impl Exchange {
    /// The round trip without the time spent at the keeper, or `None` if the timestamps are impossible.
    fn round_trip(self) -> Option<u64> {
        let thought = self.answered.checked_sub(self.received)?;
        self.returned.checked_sub(self.asked)?.checked_sub(thought)
    }
}

/// The offset to the agreed time, and its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offset {
    /// Agreed time minus local monotonic time.
    nanos: i128,
    /// The maximum error at the time of the measurement.
    error: u64,
    /// The local monotonic time of the measurement.
    measured: u64,
}

impl Offset {
    /// An offset that needs no measurement.
    pub(crate) fn known(agreed: u64, monotonic: u64, error: u64) -> Self {
        Self { nanos: i128::from(agreed) - i128::from(monotonic), error, measured: monotonic }
    }

    /// The offset from the exchange with the shortest round trip, or `None` if all exchanges are impossible.
    fn of(exchanges: &[Exchange]) -> Option<Self> {
        let timed = exchanges.iter().filter_map(|exchange| Some((exchange.round_trip()?, exchange)));
        let (took, best) = timed.min_by_key(|(took, _)| *took)?;
        let there = i128::from(best.received) - i128::from(best.asked);
        let back = i128::from(best.answered) - i128::from(best.returned);
        Some(Self { nanos: (there + back) / 2, error: took / 2 + 1, measured: best.returned })
    }

    /// Converts monotonic time to agreed time. Never before 1970.
    pub(crate) fn agreed(self, monotonic: u64) -> u64 {
        u64::try_from((i128::from(monotonic) + self.nanos).max(0)).unwrap_or(u64::MAX)
    }

    /// Converts agreed time to local monotonic time.
    pub(crate) fn monotonic(self, agreed: u64) -> u64 {
        u64::try_from((i128::from(agreed) - self.nanos).max(0)).unwrap_or(u64::MAX)
    }

    /// The maximum error at a monotonic time: the measured error plus drift.
    pub(crate) fn error(self, monotonic: u64) -> u64 {
        let since = monotonic.saturating_sub(self.measured);
        self.error.saturating_add(since / 1_000_000 * DRIFT_PPM)
    }

    /// The amount by which a newer offset shifts the agreed time.
    pub(crate) fn step_to(self, newer: Self) -> u64 {
        u64::try_from(self.nanos.abs_diff(newer.nanos)).unwrap_or(u64::MAX)
    }

    pub(crate) fn shifted(self, nanos: i64) -> Self {
        Self { nanos: self.nanos + i128::from(nanos), ..self }
    }
}

/// A duration as nanoseconds.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        /// An exchange with a clock that is ahead by `offset`.
        fn an_exchange(offset: i64)(
            asked in 1_u64 << 61..1 << 62, there in 0..1_u64 << 40, thought in 0..1_u64 << 30, back in 0..1_u64 << 40,
        ) -> Exchange {
            let received = (asked + there).saturating_add_signed(offset);
            Exchange { asked, received, answered: received + thought, returned: asked + there + thought + back }
        }
    }

    proptest! {
        #[test]
        fn the_offset_is_correct_within_the_stated_error(
            (offset, exchanges) in (-(1_i64 << 60)..1 << 60)
                .prop_flat_map(|offset| (Just(offset), prop::collection::vec(an_exchange(offset), 1..9))),
            now in 1_u64 << 61..1 << 62,
        ) {
            let found = Offset::of(&exchanges).unwrap();
            let truth = now.saturating_add_signed(offset);
            prop_assert!(found.agreed(now).abs_diff(truth) <= found.error(now.min(found.measured)));
            prop_assert!(found.error <= exchanges.iter().filter_map(|e| e.round_trip()).min().unwrap() / 2 + 1);
            prop_assert_eq!(found.monotonic(found.agreed(now)), now);
        }
    }

    #[test]
    fn exchanges_with_impossible_times_are_ignored() {
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
    fn the_error_grows_between_measurements() {
        let offset = Offset::known(1 << 60, 0, 1_000);
        assert_eq!(offset.error(0), 1_000);
        // Grows by 200 microseconds per second.
        assert_eq!(offset.error(1_000_000_000), 201_000);
    }
}
