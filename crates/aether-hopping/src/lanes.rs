//! Lanes, and drawing one for a slot. Ordinary term for a lane: a partition, which may have its own route.
//!
//! Pure data. [`crate::lane_loss`] estimates the loss on each lane.

use std::fmt;

/// The allowed numbers of lanes. At least a quarter of the lanes always stays in use.
pub(crate) const LANES: std::ops::RangeInclusive<u8> = 4..=64;

/// A set of lanes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LaneSet(pub(crate) u64);

impl LaneSet {
    /// All lanes of a channel with this many lanes.
    pub(crate) const fn all(lanes: u8) -> Self {
        Self(u64::MAX >> (64 - lanes as u32))
    }

    pub(crate) const fn holds(self, lane: u8) -> bool {
        self.0 >> lane & 1 == 1
    }

    pub(crate) const fn without(self, lane: u8) -> Self {
        Self(self.0 & !(1 << lane))
    }

    pub(crate) const fn with(self, lane: u8) -> Self {
        Self(self.0 | 1 << lane)
    }

    pub(crate) const fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |lane| self.holds(*lane))
    }
}

impl fmt::Debug for LaneSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneSet({:x})", self.0)
    }
}

/// The random numbers of a slot. There are two independent ones, so that a replacement for a lane that is left out
/// reveals nothing about that lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(crate) first: u64,
    pub(crate) second: u64,
}

impl Draw {
    /// One of this many lanes. All are equally likely, up to a bias of 2^-58.
    pub(crate) fn lane(self, lanes: u8) -> u8 {
        scaled(self.first, u64::from(lanes)) as u8
    }

    /// The drawn lane if it is in use, otherwise another lane that is.
    pub(crate) fn lane_in(self, lanes: u8, used: LaneSet) -> u8 {
        let lane = self.lane(lanes);
        if used.holds(lane) || used.len() == 0 {
            return lane;
        }
        let place = scaled(self.second, u64::from(used.len()));
        used.iter().nth(place as usize).unwrap_or(lane)
    }
}

/// Scales a draw from 0..2^64 to 0..`limit` (Lemire 2019, without the correction).
fn scaled(draw: u64, limit: u64) -> u64 {
    ((u128::from(draw) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_lane_is_in_use_and_is_the_drawn_one_if_that_is_in_use(
            first in any::<u64>(), second in any::<u64>(), lanes in LANES, some in 1..u64::MAX,
        ) {
            let draw = Draw { first, second };
            let used = LaneSet(some & LaneSet::all(lanes).0);
            let lane = draw.lane_in(lanes, used);
            prop_assert!(lane < lanes);
            prop_assert_eq!(draw.lane_in(lanes, LaneSet::all(lanes)), draw.lane(lanes));
            if used.len() > 0 {
                prop_assert!(used.holds(lane));
            }
            if used.holds(draw.lane(lanes)) {
                prop_assert_eq!(lane, draw.lane(lanes));
            }
        }
    }

    #[test]
    fn lane_sets_have_the_expected_sizes() {
        for lanes in LANES {
            assert_eq!(LaneSet::all(lanes).len(), u32::from(lanes));
            assert_eq!(LaneSet::all(lanes).without(2).with(3).iter().count(), usize::from(lanes) - 1);
        }
    }
}
