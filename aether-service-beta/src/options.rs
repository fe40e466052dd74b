//! Options of the inventory service.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::Sku;

/// The articles unless others are given.
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
}

impl BetaOptions {
    /// Units of each article unless something else is said.
    pub const DEFAULT_UNITS: u32 = 25;
    /// How long a reservation stands unless something else is said.
    pub const DEFAULT_HOLD: Duration = Duration::from_secs(180);

    /// Units of each of the default articles (chair, desk, lamp, shelf, table) in the beginning, and what the shelf is
    /// filled up to. Default: 25, which at the default rates of both services is almost enough.
    pub fn units(mut self, units: u32) -> Self {
        self.units = units;
        self
    }

    /// An article and its units. The first one takes the place of the default articles.
    pub fn article(mut self, sku: Sku, units: u32) -> Self {
        self.articles.insert(sku, units);
        self
    }

    /// How few units of an article are called low. Default: 5.
    pub fn low_at(mut self, units: u32) -> Self {
        self.low_at = units;
        self
    }

    /// How often all shelves are filled up; `None` or zero for never, the default.
    pub fn restock_every(mut self, every: Option<Duration>) -> Self {
        self.restock_every = every.filter(|every| !every.is_zero());
        self
    }

    /// How long a reservation stands that nobody ends. Default: 180 s, longer than any order takes. Those of a service
    /// that died come back after this time.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// How often the service tells that it is there and how much stock there is; `None` or zero for never. Default: each
    /// second.
    pub fn heartbeat(mut self, every: Option<Duration>) -> Self {
        self.heartbeat = every.filter(|every| !every.is_zero());
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
            low_at: 5,
            restock_every: None,
            hold: Self::DEFAULT_HOLD,
            heartbeat: Some(Duration::from_secs(1)),
        }
    }
}
