//! Samples coherence keys for timing when there are too many waves.
//!
//! Used by [`Resonance`](super::Resonance). The key joins a pair of waves, so leaving out whole keys keeps the rate of
//! pairs per wave. Leaving out waves would not.

const SECOND: i64 = 1_000_000_000;
/// The sparsest sample: one key in this many.
const MOST: u32 = 1 << 20;

/// After this many quiet seconds in a row, twice as many keys are sampled.
const CALM: u32 = 8;

#[derive(Debug)]
pub(super) struct Thinning {
    a_second: usize,
    one_in: u32,
    second: i64,
    /// The number in the current second.
    kept: usize,
    calm: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Kept,
    LeftOut,
    /// The sample changes with this wave; the value tells whether the wave is in it.
    Changed(bool),
}

impl Thinning {
    pub(super) fn new(a_second: usize) -> Self {
        Self { a_second, one_in: 1, second: i64::MIN, kept: 0, calm: 0 }
    }

    pub(super) fn keeps(&mut self, key: u32, at: i64) -> Verdict {
        if key == 0 {
            return Verdict::Kept;
        }
        let before = self.one_in;
        let second = at / SECOND;
        if second > self.second {
            self.second = second;
            self.relax();
        }
        let mut kept = key.is_multiple_of(self.one_in);
        self.kept += usize::from(kept);
        if self.kept > self.a_second && self.one_in < MOST {
            self.one_in *= 2;
            (self.kept, self.calm) = (0, 0);
            kept = key.is_multiple_of(self.one_in);
        }
        match (self.one_in == before, kept) {
            (false, kept) => Verdict::Changed(kept),
            (true, true) => Verdict::Kept,
            (true, false) => Verdict::LeftOut,
        }
    }

    /// Thinning starts in the middle of a second and ends slowly, so that a rate near the threshold does not toggle it:
    /// each change interrupts the data that timing can use.
    fn relax(&mut self) {
        self.calm = if self.kept * 4 < self.a_second { self.calm + 1 } else { 0 };
        self.kept = 0;
        if self.calm == CALM {
            self.one_in = (self.one_in / 2).max(1);
            self.calm = 0;
        }
    }

    pub(super) fn one_in(&self) -> u32 {
        self.one_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second_of(thinning: &mut Thinning, second: i64, waves: u32) -> usize {
        let kept = |verdict| matches!(verdict, Verdict::Kept | Verdict::Changed(true));
        (1..=waves).filter(|key| kept(thinning.keeps(*key, second * SECOND))).count()
    }

    #[test]
    fn whole_keys_are_left_out_until_the_rate_fits() {
        let mut thinning = Thinning::new(100);
        for second in 0..20 {
            let kept = second_of(&mut thinning, second, 1000);
            // The first two seconds measure the excess.
            assert!(second < 2 || kept <= 100, "{kept} in second {second}");
        }
        assert_eq!(thinning.one_in(), 16);
        // Half of the rate does not enlarge the sample; a tenth does, slowly.
        for second in 20..60 {
            second_of(&mut thinning, second, 500);
        }
        assert_eq!(thinning.one_in(), 16);
        for second in 60..70 {
            second_of(&mut thinning, second, 100);
        }
        assert_eq!(thinning.one_in(), 8);
        for second in 70..200 {
            second_of(&mut thinning, second, 1);
        }
        assert_eq!(thinning.one_in(), 1);
    }

    #[test]
    fn waves_without_a_key_are_kept() {
        let mut thinning = Thinning::new(1);
        second_of(&mut thinning, 0, 1000);
        assert_eq!(thinning.keeps(0, SECOND), Verdict::Kept);
    }
}
