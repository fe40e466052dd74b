//! A service's own table in a store: values of a type by a text.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::area;
use crate::backend::Rows;
use crate::error::StoreError;

/// The maximum length of the name of a table and of a key, in bytes.
const MAX_NAME: usize = 512;

pub(crate) fn check_name(name: &str, what: &'static str) -> Result<(), StoreError> {
    if (1..=MAX_NAME).contains(&name.len()) {
        return Ok(());
    }
    Err(StoreError::Name { name: name.to_owned(), what, most: MAX_NAME })
}

/// A table of a transaction. Values are kept as JSON, so that fields can be added with a default.
pub struct Table<'t, V, R: Rows> {
    rows: &'t R,
    name: String,
    area: String,
    values: PhantomData<fn() -> V>,
}

impl<'t, V, R: Rows> Table<'t, V, R> {
    pub(crate) fn new(rows: &'t R, name: &str) -> Self {
        Self { rows, name: name.to_owned(), area: area::own(name), values: PhantomData }
    }

    /// Removes a key, and returns whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be written.
    pub fn remove(&self, key: &str) -> Result<bool, StoreError> {
        self.check(key)?;
        self.rows.remove(&self.area, key.as_bytes())
    }

    /// Removes all rows.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be written.
    pub fn clear(&self) -> Result<(), StoreError> {
        self.rows.clear(&self.area)
    }

    fn check(&self, key: &str) -> Result<(), StoreError> {
        check_name(&self.name, "table")?;
        check_name(key, "key")
    }

    fn unfit(&self, key: &str, source: serde_json::Error) -> StoreError {
        StoreError::Value { table: self.name.clone(), key: key.to_owned(), source }
    }
}

impl<V: Serialize, R: Rows> Table<'_, V, R> {
    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be written, or the key is empty or longer than 512 bytes.
    pub fn insert(&self, key: &str, value: &V) -> Result<(), StoreError> {
        self.check(key)?;
        let value = serde_json::to_vec(value).map_err(|source| self.unfit(key, source))?;
        self.rows.put(&self.area, key.as_bytes(), &value)
    }
}

impl<V: DeserializeOwned, R: Rows> Table<'_, V, R> {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read, or the value has another type.
    pub fn get(&self, key: &str) -> Result<Option<V>, StoreError> {
        self.check(key)?;
        self.rows.get(&self.area, key.as_bytes())?.map(|value| self.read(key, &value)).transpose()
    }

    /// The rows from a key on, in the order of the keys; from the first one for an empty text.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read, or a value has another type.
    pub fn from(&self, key: &str, most: usize) -> Result<Vec<(String, V)>, StoreError> {
        let rows = self.rows.scan(&self.area, key.as_bytes(), most)?;
        let read = rows.into_iter().map(|(key, value)| {
            let key = String::from_utf8_lossy(&key).into_owned();
            let value = self.read(&key, &value)?;
            Ok((key, value))
        });
        read.collect()
    }

    fn read(&self, key: &str, value: &[u8]) -> Result<V, StoreError> {
        serde_json::from_slice(value).map_err(|source| self.unfit(key, source))
    }
}
