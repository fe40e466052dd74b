//! The settings of the inventory service in a configuration: the section `[service.beta]`.

use std::time::Duration;

use aether_outbox::{OpenError, Store};
use aether_service::Configuration;
use aether_service::config::{Section, Time};
use serde::{Deserialize, Serialize};

use crate::BetaOptions;

/// The settings of the inventory service. `config/default.toml` describes each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StockSettings {
    /// Units of each article at the start and after each restocking.
    pub units: u32,
    /// The number of units at which an article runs low.
    pub low_at: u32,
    /// The interval of restocking; 0 for never.
    pub restock_every: Time,
    /// The interval of the stock level; 0 for never.
    pub heartbeat: Time,
    /// How long a reservation is held.
    pub hold: Time,
    /// The file that keeps the stock; an empty text for none.
    pub store: String,
}

impl Section for StockSettings {
    const NAME: &'static str = "beta";
}

impl Default for StockSettings {
    fn default() -> Self {
        Self {
            units: BetaOptions::DEFAULT_UNITS,
            low_at: BetaOptions::DEFAULT_LOW_AT,
            restock_every: Time(Duration::from_secs(3)),
            heartbeat: Time(Duration::from_secs(1)),
            hold: Time(BetaOptions::DEFAULT_HOLD),
            store: String::new(),
        }
    }
}

impl StockSettings {
    /// The options of the service, with its store opened if it has one. Blocks.
    ///
    /// # Errors
    /// [`OpenError`] if the store cannot be opened.
    pub fn open(&self, configuration: &Configuration) -> Result<BetaOptions, OpenError> {
        let options = self.options(configuration);
        match self.store.as_str() {
            "" => Ok(options),
            path => Ok(options.store(Store::builder("beta").open(path)?)),
        }
    }

    /// The options of the service without its store, whose inbox and handlers follow the configuration.
    pub fn options(&self, configuration: &Configuration) -> BetaOptions {
        BetaOptions::default()
            .units(self.units)
            .low_at(self.low_at)
            .restock_every(Some(self.restock_every.0))
            .heartbeat(Some(self.heartbeat.0))
            .hold(self.hold.0)
            .configured(configuration)
    }
}
