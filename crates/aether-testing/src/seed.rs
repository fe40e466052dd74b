//! The seed of a test run: drawn at random, or taken from the environment to run a failed test again.

/// The environment variable with the seed of the faults: a decimal number.
pub const SEED_VARIABLE: &str = "AETHER_TEST_SEED";

/// The seed of the environment, or a random one.
///
/// # Panics
/// If the variable is set and is not a number.
pub(crate) fn drawn() -> u64 {
    given(SEED_VARIABLE).unwrap_or_else(|| fastrand::u64(..))
}

/// The number in an environment variable, if it is set.
///
/// # Panics
/// If it is not a number.
pub(crate) fn given(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(parsed(&text).unwrap_or_else(|| panic!("{variable}={text:?} is not a number from 0 to 2^64 - 1")))
}

fn parsed(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Mixes numbers into one that looks random: the finaliser of SplitMix64 after each. The result is the same on every
/// machine, so that a seed can be passed on.
pub(crate) fn mixed(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0x9E37_79B9_7F4A_7C15, |state, number| {
        let mut mixed = (state ^ number).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

/// A number for a text, the same on every machine: FNV-1a.
pub(crate) fn number_of(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// A number in [0, 1) from 64 random bits.
pub(crate) fn share_of(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_decimal_number() {
        assert_eq!(parsed(" 17\n"), Some(17));
        assert_eq!(parsed("seventeen"), None);
        assert_eq!(parsed("-1"), None);
    }

    #[test]
    fn shares_are_spread_evenly_for_neighbouring_numbers() {
        let below = |limit: f64| (0..10_000).filter(|number| share_of(mixed([7, *number])) < limit).count();
        for (limit, expected) in [(0.1, 1000.0), (0.5, 5000.0), (0.9, 9000.0)] {
            let count = below(limit) as f64;
            // Five standard deviations of a binomial distribution.
            assert!((count - expected).abs() < 5.0 * 50.0, "{count} of 10,000 below {limit}");
        }
    }
}
