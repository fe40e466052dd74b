//! The settings of the order service in a configuration: the section `[service.alpha]`.

use std::time::Duration;

use aether_service::Configuration;
use aether_service::config::{Count, OrOff, Section, Time};
use serde::{Deserialize, Serialize};

use crate::{AlphaOptions, Chance, Rate};

/// The settings of the order service. `config/default.toml` describes each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OrderSettings {
    /// Orders a second.
    pub rate: Rate,
    /// The number of orders after which the service stops.
    pub orders: OrOff<Count<0, { i64::MAX as u64 }>>,
    /// The probability that a payment is declined.
    pub decline_rate: Chance,
    /// The random seed.
    pub seed: u64,
    /// The maximum number of orders in flight.
    pub concurrency: Count<1, 1_000_000>,
    /// The time limit of an order.
    pub deadline: Time,
    /// How long one attempt waits for its answer.
    pub patience: Time,
    /// The grace period of orders in flight at shutdown.
    pub grace: Time,
}

impl Section for OrderSettings {
    const NAME: &'static str = "alpha";
}

impl Default for OrderSettings {
    fn default() -> Self {
        let AlphaOptions { rate, decline_rate, seed, concurrency, deadline, patience, grace, .. } =
            AlphaOptions::default();
        Self {
            rate,
            orders: OrOff::Off,
            decline_rate,
            seed,
            concurrency: Count::new(concurrency.get() as u64).unwrap_or(Count::LEAST),
            deadline: Time(deadline),
            patience: Time(patience),
            grace: Time(grace),
        }
    }
}

impl OrderSettings {
    /// The options of the service, whose handlers follow the configuration.
    pub fn options(&self, configuration: &Configuration) -> AlphaOptions {
        let Time(deadline) = self.deadline;
        let options = AlphaOptions::default()
            .rate(self.rate)
            .orders(self.orders.on().map(Count::get))
            .decline_rate(self.decline_rate)
            .seed(self.seed)
            .deadline(deadline)
            .patience(zero_is_short(self.patience))
            .grace(self.grace.0)
            .configured(configuration);
        match self.concurrency.as_usize().try_into() {
            Ok(concurrency) => options.concurrency(concurrency),
            // The type has no zero.
            Err(_) => options,
        }
    }
}

/// An attempt that waits for no time at all would never be answered.
fn zero_is_short(Time(patience): Time) -> Duration {
    patience.max(Duration::from_millis(1))
}
