//! Options of the inventory service.

use std::collections::BTreeMap;
use std::time::Duration;

use aether_outbox::Store;
use aether_service::Configuration;

use crate::id::Sku;

/// The default articles.
const ARTICLES: [&str; 5] = ["chair", "desk", "lamp", "shelf", "table"];

/// Options of the inventory service.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct BetaOptions {
    pub(crate) units: u32,
    pub(crate) articles: BTreeMap<Sku, u32>,
    pub(crate) low_at: u32,
    pub(crate) restock_every: Option<Duration>,
    pub(crate) hold: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) store: Option<Store>,
    pub(crate) configuration: Configuration,
}

impl BetaOptions {
    /// The default number of units of each article.
    pub const DEFAULT_UNITS: u32 = 25;
    /// The default number of units at which an article runs low.
    pub const DEFAULT_LOW_AT: u32 = 5;
    /// The default hold of a reservation.
    pub const DEFAULT_HOLD: Duration = Duration::from_secs(180);

    /// Units of each default article (chair, desk, lamp, shelf, table) at the start and after restocking. Default: 25,
    /// which is almost enough at the default rates of both services.
    pub fn units(mut self, units: u32) -> Self {
        self.units = units;
        self
    }

    /// Adds an article and its units. The first one replaces the default articles.
    pub fn article(mut self, sku: Sku, units: u32) -> Self {
        self.articles.insert(sku, units);
        self
    }

    /// The number of available units at which an article runs low. Default: 5.
    pub fn low_at(mut self, units: u32) -> Self {
        self.low_at = units;
        self
    }

    /// The interval of restocking; `None` or zero for never. Default: never.
    pub fn restock_every(mut self, every: Option<Duration>) -> Self {
        self.restock_every = every.filter(|every| !every.is_zero());
        self
    }

    /// How long a reservation is held before it expires. Default: 180 s, longer than any order takes. So the
    /// reservations of a crashed service are released after this time.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// The interval of the heartbeat with the stock level; `None` or zero for never. Default: 1 s.
    pub fn heartbeat(mut self, every: Option<Duration>) -> Self {
        self.heartbeat = every.filter(|every| !every.is_zero());
        self
    }

    /// Keeps the stock in a store, so that it survives a crash: each change and its events are committed before the question
    /// is answered. Default: in memory.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// The configuration of the inbox and the handlers. Default: the built-in one. Questions are always handled one at
    /// a time, and the grace period is always 0.6 s.
    pub fn configured(mut self, configuration: &Configuration) -> Self {
        self.configuration = configuration.clone();
        self
    }

    pub(crate) fn stocked(&self) -> BTreeMap<Sku, u32> {
        if self.articles.is_empty() {
            ARTICLES.iter().filter_map(|name| Some((Sku::new(name).ok()?, self.units))).collect()
        } else {
            self.articles.clone()
        }
    }
}

impl Default for BetaOptions {
    fn default() -> Self {
        Self {
            units: Self::DEFAULT_UNITS,
            articles: BTreeMap::new(),
            low_at: Self::DEFAULT_LOW_AT,
            restock_every: None,
            hold: Self::DEFAULT_HOLD,
            heartbeat: Some(Duration::from_secs(1)),
            store: None,
            configuration: Configuration::default(),
        }
    }
}
