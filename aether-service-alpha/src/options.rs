//! Options of the order service.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use aether_service::Configuration;
use serde::{Deserialize, Serialize};

const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// A rate of orders a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rate(f64);

/// A rate out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a rate of {given} is not allowed: use {} to {} orders a second", Rate::LEAST, Rate::MOST)]
pub struct RateError {
    given: String,
}

impl Rate {
    /// The fewest orders a second: one in about a quarter of an hour.
    pub const LEAST: f64 = 0.001;
    /// The most orders a second: the timer's ticks are one millisecond.
    pub const MOST: f64 = 1000.0;

    /// Makes a rate from a number of orders a second.
    ///
    /// # Errors
    /// [`RateError`] for everything outside of [`Rate::LEAST`] to [`Rate::MOST`], NaN included.
    pub fn per_second(orders: f64) -> Result<Self, RateError> {
        if (Self::LEAST..=Self::MOST).contains(&orders) {
            Ok(Self(orders))
        } else {
            Err(RateError { given: orders.to_string() })
        }
    }

    /// The time from one order to the next.
    pub(crate) fn period(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}

impl TryFrom<f64> for Rate {
    type Error = RateError;
    fn try_from(orders: f64) -> Result<Self, RateError> {
        Self::per_second(orders)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl FromStr for Rate {
    type Err = RateError;
    fn from_str(text: &str) -> Result<Self, RateError> {
        let orders = text.parse().map_err(|_| RateError { given: text.to_owned() })?;
        Self::per_second(orders)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A probability, from 0 (never) to 1 (always).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Chance(f64);

/// A number that is not a probability.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{given} is not a chance: use a number from 0 (never) to 1 (always)")]
pub struct ChanceError {
    given: String,
}

impl Chance {
    /// Makes a chance from a number.
    ///
    /// # Errors
    /// [`ChanceError`] for numbers below 0 and above 1, and for NaN.
    pub fn new(chance: f64) -> Result<Self, ChanceError> {
        if (0.0..=1.0).contains(&chance) {
            Ok(Self(chance))
        } else {
            Err(ChanceError { given: chance.to_string() })
        }
    }

    /// The number.
    #[must_use]
    pub const fn as_f64(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Chance {
    type Error = ChanceError;
    fn try_from(chance: f64) -> Result<Self, ChanceError> {
        Self::new(chance)
    }
}

impl From<Chance> for f64 {
    fn from(chance: Chance) -> Self {
        chance.0
    }
}

impl FromStr for Chance {
    type Err = ChanceError;
    fn from_str(text: &str) -> Result<Self, ChanceError> {
        let chance = text.parse().map_err(|_| ChanceError { given: text.to_owned() })?;
        Self::new(chance)
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Options of the order service.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct AlphaOptions {
    pub(crate) rate: Rate,
    pub(crate) orders: Option<u64>,
    pub(crate) decline_rate: Chance,
    pub(crate) seed: u64,
    pub(crate) concurrency: NonZeroUsize,
    pub(crate) deadline: Duration,
    pub(crate) patience: Duration,
    pub(crate) grace: Duration,
    pub(crate) configuration: Configuration,
}

impl AlphaOptions {
    /// Orders a second. Default: 20.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    /// The number of orders after which the service stops. Default: `None`, which runs until shutdown.
    pub fn orders(mut self, orders: Option<u64>) -> Self {
        self.orders = orders;
        self
    }

    /// The probability that a payment is declined. Default: 0.1.
    pub fn decline_rate(mut self, chance: Chance) -> Self {
        self.decline_rate = chance;
        self
    }

    /// The random seed. The same seed creates the same orders and declines the same cards. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The maximum number of orders in flight. At the maximum no new order is created. Default: 16.
    pub fn concurrency(mut self, orders: NonZeroUsize) -> Self {
        self.concurrency = orders;
        self
    }

    /// The time limit of an order. After it the order is undone, which may take the same time again. If that cannot be
    /// confirmed either, the order stays counted as in flight. Default: 30 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long one attempt waits for its answer. Default: 1 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The configuration of the payment service's inbox and handlers. Default: the built-in one.
    pub fn configured(mut self, configuration: &Configuration) -> Self {
        self.configuration = configuration.clone();
        self
    }

    /// The grace period of orders in flight at shutdown. Default: 600 ms.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

impl Default for AlphaOptions {
    fn default() -> Self {
        Self {
            rate: Rate(20.0),
            orders: None,
            decline_rate: Chance(0.1),
            seed: 0,
            concurrency: CONCURRENCY,
            deadline: Duration::from_secs(30),
            patience: Duration::from_secs(1),
            grace: Duration::from_millis(600),
            configuration: Configuration::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_chances_out_of_range_are_refused_with_the_allowed_range() {
        for bad in ["0", "-1", "NaN", "1001", "inf", "1e-9", "many"] {
            let error = bad.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("use 0.001 to 1000 orders a second"), "{bad}: {error}");
        }
        assert_eq!("50".parse::<Rate>().unwrap().period(), Duration::from_millis(20));
        for bad in ["-0.1", "1.1", "NaN", "often"] {
            assert!(bad.parse::<Chance>().is_err(), "{bad}");
        }
        assert_eq!("0.25".parse::<Chance>().unwrap().as_f64(), 0.25);
    }
}
