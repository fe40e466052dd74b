//! A number of waves in a time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::quantity::{QuantityError, from_text};

const ALLOWED: &str = "a whole number of waves and a time, such as 100/s, 5/m or 20/250ms, with a time above zero and at most a day";

/// The longest period: the end of a period must not overflow the clock.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24);

/// How many waves are started in a time: `100/s`, `5/m`, `20/250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    waves: u64,
    period: Duration,
}

impl FromStr for Rate {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let parse = || {
            let (waves, period) = text.split_once('/')?;
            let period = period.trim();
            let one_unit = format!("1{period}");
            let is_unit = period.starts_with(|first: char| first.is_ascii_alphabetic());
            let period = humantime::parse_duration(if is_unit { &one_unit } else { period }).ok()?;
            let waves = waves.trim().parse().ok()?;
            (waves > 0 && !period.is_zero() && period <= LONGEST).then_some(Self { waves, period })
        };
        parse().ok_or_else(|| QuantityError::new(text, ALLOWED))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.waves, humantime::format_duration(self.period))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, ALLOWED)
    }
}

impl Rate {
    /// The number of waves and the time.
    #[must_use]
    pub const fn parts(self) -> (u64, Duration) {
        (self.waves, self.period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_wrong_ones_refused() {
        for (text, waves, millis) in [("100/s", 100, 1000), ("5 / m", 5, 60_000), ("20/250ms", 20, 250)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.waves, rate.period.as_millis()), (waves, millis), "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for wrong in ["", "100", "0/s", "5/0s", "-1/s", "1.5/s", "5/2days", "5/"] {
            assert!(wrong.parse::<Rate>().unwrap_err().to_string().contains("such as 100/s"), "{wrong}");
        }
    }
}
