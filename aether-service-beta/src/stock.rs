//! The stock: how many units of each article can be reserved, are reserved, and were sold.
//!
//! Pure: no bus, no clock, no I/O. The service calls it with what it hears. Whoever asks may not get the answer and
//! ask again, and what was asked first may arrive last, so everything is done once for each order, whatever comes how
//! often and in which order: a reservation that arrives after its release stays released.

use std::collections::{BTreeMap, HashMap};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::StockSummary;
use crate::id::{OrderId, Sku};

/// How many orders that have ended are remembered, so that a late repetition finds its answer. The reservations that
/// are open need no bound: each one holds a unit.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// Units of one article, taken off the shelf for one order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reservation {
    /// Which article.
    pub sku: Sku,
    /// How many units.
    pub quantity: NonZeroU32,
    /// When it ends by itself.
    pub until: Instant,
}

/// Why nothing was reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// Fewer units than are wanted.
    #[error("{available} of {sku} are there, {wanted} are wanted")]
    OutOfStock {
        /// Which article.
        sku: Sku,
        /// How many units can be reserved.
        available: u64,
        /// How many units were wanted.
        wanted: NonZeroU32,
    },
    /// No such article.
    #[error("there is no article {sku}")]
    UnknownSku {
        /// As it was asked for.
        sku: Sku,
    },
    /// The order was released before.
    #[error("the order was released before")]
    Released,
    /// The order has another reservation or was sold with other contents.
    #[error("the order is about something else already")]
    Conflict,
}

/// A release that came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the order was sold already")]
pub struct AlreadySold;

/// A sale of what is not reserved (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the order has no reservation")]
pub struct NotReserved;

#[derive(Debug)]
struct Shelf {
    /// What the shelf is filled up to.
    level: u32,
    supplied: u64,
    available: u64,
    reserved: u64,
    sold: u64,
}

/// What became of an order that holds nothing any more.
#[derive(Debug)]
enum Ended {
    Sold { sku: Sku, quantity: NonZeroU32 },
    Released,
    Refused(Refusal),
}

/// The stock of all articles. At every moment, for each of them: supplied = available + reserved + sold.
#[derive(Debug)]
pub struct Stock {
    shelves: BTreeMap<Sku, Shelf>,
    reservations: HashMap<OrderId, Reservation>,
    ended: LruCache<OrderId, Ended>,
    hold: Duration,
}

impl Stock {
    /// A stock with so many units of each article, in which a reservation ends by itself after `hold`.
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
        }
    }

    /// Whether anything was asked about an order before, as far as is remembered.
    #[must_use]
    pub fn knows(&self, order: &OrderId) -> bool {
        self.reservations.contains_key(order) || self.ended.contains(order)
    }

    /// Takes units off the shelf for an order; returns how many of the article can still be reserved.
    ///
    /// # Errors
    /// [`Refusal`], the same one however often the order is tried again.
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
                return Ok(shelf.available);
            }
            Some(_) => Refusal::OutOfStock { sku: sku.clone(), available, wanted: quantity },
            None => Refusal::UnknownSku { sku: sku.clone() },
        };
        self.ended.put(order.clone(), Ended::Refused(refusal.clone()));
        Err(refusal)
    }

    /// Puts what an order holds back on the shelf; returns what that was. Nothing for an order that holds nothing,
    /// which then can never reserve anything: its reservation may still be on the way.
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
        } else if let Some(Ended::Sold { .. }) = self.ended.get(order) {
            return Err(AlreadySold);
        }
        self.ended.put(order.clone(), Ended::Released);
        Ok(held)
    }

    /// Sells what an order holds; returns what that was, or nothing if it was sold before.
    ///
    /// # Errors
    /// [`NotReserved`] if the order was never reserved, or was released since.
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
        self.ended.put(order.clone(), Ended::Sold { sku: held.sku.clone(), quantity: held.quantity });
        Ok(Some(held))
    }

    /// Releases the reservations that have stood too long: those who asked for them are gone.
    pub fn expire(&mut self, now: Instant) -> Vec<(OrderId, Reservation)> {
        let over = self.reservations.iter().filter(|(_, held)| held.until <= now);
        let orders: Vec<OrderId> = over.map(|(order, _)| order.clone()).collect();
        let release = |order: OrderId| {
            let held = self.release(&order).ok().flatten()?;
            Some((order, held))
        };
        orders.into_iter().filter_map(release).collect()
    }

    /// Adds units of an article; returns how many can be reserved now, or `None` if there is no such article.
    pub fn restock(&mut self, sku: &Sku, quantity: NonZeroU32) -> Option<u64> {
        let shelf = self.shelves.get_mut(sku)?;
        shelf.supply(quantity);
        Some(shelf.available)
    }

    /// Adds what is missing on each shelf to the units there were in the beginning; returns what was added.
    pub fn fill_up(&mut self) -> Vec<(Sku, NonZeroU32)> {
        let mut added = Vec::new();
        for (sku, shelf) in &mut self.shelves {
            let available = u32::try_from(shelf.available).unwrap_or(u32::MAX);
            if let Some(missing) = NonZeroU32::new(shelf.level.saturating_sub(available)) {
                shelf.supply(missing);
                added.push((sku.clone(), missing));
            }
        }
        added
    }

    /// How many units of an article can be reserved; `None` if there is no such article.
    #[must_use]
    pub fn available(&self, sku: &Sku) -> Option<u64> {
        self.shelves.get(sku).map(|shelf| shelf.available)
    }

    /// The account of one article; `None` if there is no such article.
    #[must_use]
    pub fn of(&self, sku: &Sku) -> Option<StockSummary> {
        self.shelves.get(sku).map(Shelf::summary)
    }

    /// The account of all articles together.
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
