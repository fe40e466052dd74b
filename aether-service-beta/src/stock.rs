//! The stock: the available, reserved and sold units of each article.
//!
//! Pure: no bus, no clock, no I/O. The service calls it for each question. Answers can get lost, so questions are
//! repeated, and they can arrive in any order. So each change happens once per order, and a reservation that arrives
//! after its release stays released. The state that has to survive a crash is in `stock/keeping.rs`.

mod keeping;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use aether_service::schemars::{self, JsonSchema};
use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::StockSummary;
use crate::id::{OrderId, Sku};

/// The number of ended orders remembered, so that late repetitions get the same answer. Open reservations need no
/// bound, because each one holds a unit.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// Units of one article, reserved for one order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reservation {
    /// Which article.
    pub sku: Sku,
    /// How many units.
    pub quantity: NonZeroU32,
    /// When it expires.
    pub until: Instant,
}

/// Why a reservation was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// Fewer units are available than requested.
    #[error("{available} of {sku} are available, {wanted} were requested")]
    OutOfStock {
        /// Which article.
        sku: Sku,
        /// Units that can be reserved.
        available: u64,
        /// Units requested.
        wanted: NonZeroU32,
    },
    /// The article does not exist.
    #[error("there is no article {sku}")]
    UnknownSku {
        /// The requested article.
        sku: Sku,
    },
    /// The order was released before.
    #[error("the order was already released")]
    Released,
    /// The order was already reserved or sold with other contents.
    #[error("the order already exists with other contents")]
    Conflict,
}

/// A release of a sold order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the order is already sold")]
pub struct AlreadySold;

/// A sale without a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the order has no reservation")]
pub struct NotReserved;

#[derive(Debug)]
struct Shelf {
    /// The units after restocking.
    level: u32,
    supplied: u64,
    available: u64,
    reserved: u64,
    sold: u64,
}

/// The end of an order.
#[derive(Debug)]
enum Ended {
    Sold { sku: Sku, quantity: NonZeroU32 },
    Released,
    Refused(Refusal),
}

/// The articles and orders whose rows are to be written.
#[derive(Debug, Default)]
struct Changed {
    shelves: BTreeSet<Sku>,
    orders: BTreeSet<OrderId>,
}

/// The stock of all articles. For each of them, always: supplied = available + reserved + sold.
#[derive(Debug)]
pub struct Stock {
    shelves: BTreeMap<Sku, Shelf>,
    reservations: HashMap<OrderId, Reservation>,
    ended: LruCache<OrderId, Ended>,
    hold: Duration,
    /// `None` in a stock that lives in memory only.
    changed: Option<Changed>,
}

impl Stock {
    /// A stock with the given units of each article. Reservations expire after `hold`.
    #[must_use]
    pub fn new(articles: impl IntoIterator<Item = (Sku, u32)>, hold: Duration) -> Self {
        let shelf = |level: u32| {
            let units = u64::from(level);
            Shelf { level, supplied: units, available: units, reserved: 0, sold: 0 }
        };
        Self {
            shelves: articles.into_iter().map(|(sku, units)| (sku, shelf(units))).collect(),
            reservations: HashMap::new(),
            ended: LruCache::new(REMEMBERED),
            hold,
            changed: None,
        }
    }

    /// Whether the stock remembers an earlier question about an order.
    #[must_use]
    pub fn knows(&self, order: &OrderId) -> bool {
        self.reservations.contains_key(order) || self.ended.contains(order)
    }

    /// Reserves units for an order. Returns how many units of the article can still be reserved.
    ///
    /// # Errors
    /// [`Refusal`], the same one in each repetition.
    pub fn reserve(
        &mut self,
        order: &OrderId,
        sku: &Sku,
        quantity: NonZeroU32,
        now: Instant,
    ) -> Result<u64, Refusal> {
        let available = self.available(sku).unwrap_or_default();
        let repeated = |same: bool| {
            if same { Ok(available) } else { Err(Refusal::Conflict) }
        };
        if let Some(held) = self.reservations.get(order) {
            return repeated(held.sku == *sku && held.quantity == quantity);
        }
        match self.ended.get(order) {
            Some(Ended::Sold { sku: sold, quantity: units }) => {
                return repeated(sold == sku && *units == quantity);
            }
            Some(Ended::Released) => return Err(Refusal::Released),
            Some(Ended::Refused(refusal)) => return Err(refusal.clone()),
            None => {}
        }
        let units = u64::from(quantity.get());
        let refusal = match self.shelves.get_mut(sku) {
            Some(shelf) if shelf.available >= units => {
                shelf.available -= units;
                shelf.reserved += units;
                let reservation = Reservation { sku: sku.clone(), quantity, until: now + self.hold };
                self.reservations.insert(order.clone(), reservation);
                let available = shelf.available;
                self.touch(Some(order), Some(sku));
                return Ok(available);
            }
            Some(_) => Refusal::OutOfStock { sku: sku.clone(), available, wanted: quantity },
            None => Refusal::UnknownSku { sku: sku.clone() },
        };
        self.end(order, Ended::Refused(refusal.clone()));
        Err(refusal)
    }

    /// Releases the reservation of an order and returns it, or `None` if there is none. Afterwards the order can never
    /// reserve anything, because its reservation may still be on the way.
    ///
    /// # Errors
    /// [`AlreadySold`].
    pub fn release(&mut self, order: &OrderId) -> Result<Option<Reservation>, AlreadySold> {
        let held = self.reservations.remove(order);
        if let Some(held) = &held {
            let units = u64::from(held.quantity.get());
            if let Some(shelf) = self.shelves.get_mut(&held.sku) {
                shelf.reserved -= units;
                shelf.available += units;
            }
            self.touch(None, Some(&held.sku));
        } else if let Some(Ended::Sold { .. }) = self.ended.get(order) {
            return Err(AlreadySold);
        }
        self.end(order, Ended::Released);
        Ok(held)
    }

    /// Sells the reservation of an order and returns it, or `None` if it is already sold.
    ///
    /// # Errors
    /// [`NotReserved`] if the order has no reservation (any more).
    pub fn commit(&mut self, order: &OrderId) -> Result<Option<Reservation>, NotReserved> {
        let Some(held) = self.reservations.remove(order) else {
            return match self.ended.get(order) {
                Some(Ended::Sold { .. }) => Ok(None),
                Some(Ended::Released | Ended::Refused(_)) | None => Err(NotReserved),
            };
        };
        let units = u64::from(held.quantity.get());
        if let Some(shelf) = self.shelves.get_mut(&held.sku) {
            shelf.reserved -= units;
            shelf.sold += units;
        }
        self.touch(None, Some(&held.sku));
        self.end(order, Ended::Sold { sku: held.sku.clone(), quantity: held.quantity });
        Ok(Some(held))
    }

    /// Releases expired reservations, whose askers are gone.
    pub fn expire(&mut self, now: Instant) -> Vec<(OrderId, Reservation)> {
        let over = self.reservations.iter().filter(|(_, held)| held.until <= now);
        let orders: Vec<OrderId> = over.map(|(order, _)| order.clone()).collect();
        let release = |order: OrderId| {
            let held = self.release(&order).ok().flatten()?;
            Some((order, held))
        };
        orders.into_iter().filter_map(release).collect()
    }

    /// Adds units of an article. Returns how many can be reserved now, or `None` if the article does not exist.
    pub fn restock(&mut self, sku: &Sku, quantity: NonZeroU32) -> Option<u64> {
        let shelf = self.shelves.get_mut(sku)?;
        shelf.supply(quantity);
        let available = shelf.available;
        self.touch(None, Some(sku));
        Some(available)
    }

    /// Remembers the end of an order, and forgets the oldest one if there are too many.
    fn end(&mut self, order: &OrderId, ended: Ended) {
        let forgotten = self.ended.push(order.clone(), ended).map(|(forgotten, _)| forgotten);
        self.touch(forgotten.as_ref(), None);
        self.touch(Some(order), None);
    }

    /// Restocks each article to its initial units. Returns what was added.
    pub fn fill_up(&mut self) -> Vec<(Sku, NonZeroU32)> {
        let mut added = Vec::new();
        for (sku, shelf) in &mut self.shelves {
            let available = u32::try_from(shelf.available).unwrap_or(u32::MAX);
            if let Some(missing) = NonZeroU32::new(shelf.level.saturating_sub(available)) {
                shelf.supply(missing);
                added.push((sku.clone(), missing));
            }
        }
        added.iter().for_each(|(sku, _)| self.touch(None, Some(sku)));
        added
    }

    /// The available units of an article; `None` if the article does not exist.
    #[must_use]
    pub fn available(&self, sku: &Sku) -> Option<u64> {
        self.shelves.get(sku).map(|shelf| shelf.available)
    }

    /// The summary of one article; `None` if the article does not exist.
    #[must_use]
    pub fn of(&self, sku: &Sku) -> Option<StockSummary> {
        self.shelves.get(sku).map(Shelf::summary)
    }

    /// The summary of all articles.
    #[must_use]
    pub fn summary(&self) -> StockSummary {
        self.shelves.values().map(Shelf::summary).sum()
    }
}

impl Shelf {
    fn supply(&mut self, quantity: NonZeroU32) {
        let units = u64::from(quantity.get());
        self.supplied += units;
        self.available += units;
    }

    fn summary(&self) -> StockSummary {
        let Self { supplied, available, reserved, sold, .. } = *self;
        StockSummary { supplied, available, reserved, sold }
    }
}

#[cfg(test)]
mod tests;
