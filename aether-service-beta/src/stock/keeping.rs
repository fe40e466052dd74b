//! A stock that survives: what has changed, as rows of a store.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use aether_core::clock::micros_since_1970;
use aether_outbox::{StoreError, Transaction};
use serde::{Deserialize, Serialize};

use super::{Changed, Ended, Refusal, Reservation, Shelf, Stock};
use crate::id::{OrderId, Sku};

const SHELVES: &str = "shelves";
const ORDERS: &str = "orders";
/// How many rows are read at once.
const PAGE: usize = 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ShelfRow {
    level: u32,
    supplied: u64,
    available: u64,
    reserved: u64,
    sold: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum OrderRow {
    Reserved { sku: Sku, quantity: NonZeroU32, until_micros: u64 },
    Sold { sku: Sku, quantity: NonZeroU32 },
    Released,
    Refused(Refusal),
}

/// Rows to write, and rows to remove.
#[derive(Debug)]
pub(crate) struct Rows {
    shelves: Vec<(Sku, ShelfRow)>,
    orders: Vec<(OrderId, Option<OrderRow>)>,
}

impl Rows {
    pub(crate) fn write(&self, change: &Transaction<'_, aether_outbox::Redb>) -> Result<(), StoreError> {
        let shelves = change.table(SHELVES);
        for (sku, row) in &self.shelves {
            shelves.insert(sku.as_str(), row)?;
        }
        let orders = change.table(ORDERS);
        for (order, row) in &self.orders {
            match row {
                Some(row) => orders.insert(order.as_str(), row)?,
                None => orders.remove(order.as_str()).map(drop)?,
            }
        }
        Ok(())
    }
}

impl Stock {
    /// The stock of a store. Articles that the store does not have yet are added as in a new stock.
    pub(crate) fn stored(
        change: &Transaction<'_, aether_outbox::Redb>,
        articles: impl IntoIterator<Item = (Sku, u32)>,
        hold: Duration,
        now: Instant,
    ) -> Result<Self, StoreError> {
        let mut stock = Self::new(articles, hold);
        let mut changed = Changed::default();
        changed.shelves.extend(stock.shelves.keys().cloned());
        let wall = micros_since_1970();
        each(change, SHELVES, |sku, row: ShelfRow| {
            let Ok(sku) = Sku::new(sku) else { return };
            changed.shelves.remove(&sku);
            let ShelfRow { level, supplied, available, reserved, sold } = row;
            let level = stock.shelves.get(&sku).map_or(level, |configured| configured.level);
            stock.shelves.insert(sku, Shelf { level, supplied, available, reserved, sold });
        })?;
        each(change, ORDERS, |order, row: OrderRow| {
            let Ok(order) = OrderId::new(order) else { return };
            let ended = match row {
                OrderRow::Reserved { sku, quantity, until_micros } => {
                    let until = now + Duration::from_micros(until_micros.saturating_sub(wall)).min(hold);
                    stock.reservations.insert(order, Reservation { sku, quantity, until });
                    return;
                }
                OrderRow::Sold { sku, quantity } => Ended::Sold { sku, quantity },
                OrderRow::Released => Ended::Released,
                OrderRow::Refused(refusal) => Ended::Refused(refusal),
            };
            stock.ended.put(order, ended);
        })?;
        stock.changed = Some(changed);
        Ok(stock)
    }

    /// The changes since the last call. `None` if there are none, or nothing is stored.
    pub(crate) fn take_changes(&mut self, now: Instant) -> Option<Rows> {
        let changed = std::mem::take(self.changed.as_mut()?);
        if changed.shelves.is_empty() && changed.orders.is_empty() {
            return None;
        }
        let shelf = |sku: Sku| {
            let Shelf { level, supplied, available, reserved, sold } = *self.shelves.get(&sku)?;
            Some((sku, ShelfRow { level, supplied, available, reserved, sold }))
        };
        let shelves = changed.shelves.into_iter().filter_map(shelf).collect();
        let orders = changed.orders.into_iter().map(|order| (order.clone(), self.row(&order, now))).collect();
        Some(Rows { shelves, orders })
    }

    /// The row of an order; `None` if it is forgotten.
    fn row(&self, order: &OrderId, now: Instant) -> Option<OrderRow> {
        if let Some(Reservation { sku, quantity, until }) = self.reservations.get(order) {
            let left = until.saturating_duration_since(now).as_micros();
            let until_micros = micros_since_1970().saturating_add(u64::try_from(left).unwrap_or(u64::MAX));
            return Some(OrderRow::Reserved { sku: sku.clone(), quantity: *quantity, until_micros });
        }
        Some(match self.ended.peek(order)? {
            Ended::Sold { sku, quantity } => OrderRow::Sold { sku: sku.clone(), quantity: *quantity },
            Ended::Released => OrderRow::Released,
            Ended::Refused(refusal) => OrderRow::Refused(refusal.clone()),
        })
    }

    /// Notes that the rows of an order, and of its article, are to be written.
    pub(super) fn touch(&mut self, order: Option<&OrderId>, sku: Option<&Sku>) {
        if let Some(changed) = &mut self.changed {
            changed.orders.extend(order.cloned());
            changed.shelves.extend(sku.cloned());
        }
    }
}

/// Calls back for each row of a table.
fn each<V: serde::de::DeserializeOwned>(
    change: &Transaction<'_, aether_outbox::Redb>,
    table: &str,
    mut call: impl FnMut(&str, V),
) -> Result<(), StoreError> {
    let table = change.table::<V>(table);
    let mut from = String::new();
    loop {
        let page = table.from(&from, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        // The smallest key behind the last one.
        from = format!("{last}\0");
        page.into_iter().for_each(|(key, value)| call(&key, value));
    }
}
