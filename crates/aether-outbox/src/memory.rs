//! A bounded memory of what was done, in the rows of a store: ids of waves, and names of sagas that have ended.

use std::time::Duration;

use aether_core::clock::micros_since_1970;

use crate::area::{key, number};
use crate::backend::Rows;
use crate::error::StoreError;

/// The bounds of what is remembered: a number of ids, and a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Horizon {
    pub(crate) ids: u64,
    pub(crate) age: Duration,
}

/// A memory below the name of an area. `<area>` has the ids, `<area>.order` when each was noted.
pub(crate) struct Memory<'a, R: Rows> {
    rows: &'a R,
    area: &'a str,
    horizon: Horizon,
}

/// The key of the last number and time, in front of all numbers.
const LAST: &[u8] = b"";

impl<'a, R: Rows> Memory<'a, R> {
    pub(crate) const fn new(rows: &'a R, area: &'a str, horizon: Horizon) -> Self {
        Self { rows, area, horizon }
    }

    /// The bytes noted with an id.
    pub(crate) fn recall(&self, id: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(self.area, id)
    }

    /// Notes an id that is not there, and forgets what is beyond the horizon: at most two ids at a time, so that no call
    /// takes long after the horizon was lowered.
    pub(crate) fn note(&self, id: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let order = format!("{}.order", self.area);
        let (last, before) = match self.rows.get(&order, LAST)? {
            Some(row) => {
                (number(&row).unwrap_or_default(), row.get(8..).and_then(number).unwrap_or_default())
            }
            None => (0, 0),
        };
        // Times in the memory never go back. An id that the clock took to the future stays until its turn by count.
        let (next, now) = (last + 1, micros_since_1970().max(before));
        let noted = [key(next), key(now)].concat();
        self.rows.put(self.area, id, value)?;
        self.rows.put(&order, &key(next), &[&key(now), id].concat())?;
        self.rows.put(&order, LAST, &noted)?;
        let oldest_time = now.saturating_sub(u64::try_from(self.horizon.age.as_micros()).unwrap_or(u64::MAX));
        for (place, row) in self.rows.scan(&order, &key(0), 2)? {
            let is_beyond = number(&place).is_some_and(|place| place + self.horizon.ids <= next);
            if !is_beyond && number(&row).is_none_or(|time| time >= oldest_time) {
                break;
            }
            self.rows.remove(&order, &place)?;
            self.rows.remove(self.area, row.get(8..).unwrap_or_default())?;
        }
        Ok(())
    }
}
