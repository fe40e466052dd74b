//! Lanes: how urgent a wave of some strength is below the medium.
//!
//! A network sends more urgent lanes first, and keeps the order only within one. So the waves of a lane stay in order,
//! and everything that relies on an order (numbers, replay windows) is kept for each lane.

/// A lane, 1 to 7, 1 the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane(u8);

/// The bits of a node's number that tell its lanes apart.
pub(super) const LANE_BITS: u64 = 7;

impl Lane {
    pub(super) const COUNT: usize = 8;
    /// The number of lanes that waves take.
    pub(super) const OF_WAVES: usize = 6;
    /// For messages that keep the peers together: presence, joins, pauses. Waves never take it.
    pub(super) const CONTROL: Self = Self(1);
    /// For messages that are sent behind everything else.
    pub(super) const LAST: Self = Self(7);

    /// The lane of a strength level, 0 (the strongest) to 63. Normal waves (0.5) have level 4; each level is a quarter of
    /// an octave.
    pub(super) const fn of_level(level: u8) -> Self {
        Self(match level {
            0..=1 => 2,
            2..=3 => 3,
            4..=7 => 4,
            8..=15 => 5,
            16..=31 => 6,
            _ => 7,
        })
    }

    pub(super) const fn read(number: u8) -> Option<Self> {
        if matches!(number, 1..=7) { Some(Self(number)) } else { None }
    }

    pub(super) const fn number(self) -> u8 {
        self.0
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The place among the lanes that waves take; `None` for [`Lane::CONTROL`].
    pub(super) const fn place(self) -> Option<usize> {
        (self.0 as usize).checked_sub(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::Wave;

    #[test]
    fn stronger_waves_take_more_urgent_lanes() {
        let lanes: Vec<_> = (0..64).map(Lane::of_level).collect();
        assert!(lanes.is_sorted());
        assert!(lanes.iter().all(|lane| *lane > Lane::CONTROL && *lane <= Lane::LAST));
        let of = |amplitude: f32| {
            let wave = Wave::builder("a").amplitude(amplitude).build().unwrap();
            Lane::of_level(wave.signal().level()).number()
        };
        assert_eq!([1.0, 0.7, 0.5, 0.25, 0.05, 0.001].map(of), [2, 3, 4, 5, 6, 7]);
    }
}
