//! The interface of a backend: rows of bytes in named areas, in one transaction.

use std::fmt::Debug;
use std::path::Path;

use crate::error::StoreError;

/// A database that a store is kept in. Implemented by [`Redb`](crate::Redb) and, with the feature `sqlite`, by
/// `Sqlite`. To use another embedded database, implement it and open the store with
/// [`StoreBuilder::open_with`](crate::StoreBuilder::open_with).
///
/// 1. **Isolation**: a transaction sees its own changes, and all changes that were committed before it began. The store
///    begins one transaction at a time. While the backend lives, nothing else changes its rows: a second process gets
///    an error when it opens the backend.
/// 2. **Atomicity**: a transaction that is dropped has changed nothing, also after a panic.
/// 3. **Durability**: what was committed survives a killed process and a power failure.
/// 4. **Order**: areas are independent. The rows of an area are ordered by the bytes of their keys. Keys and values are
///    any bytes: also an empty key, and a value of some megabytes.
/// 5. **Errors**: a transaction with a failed operation is dropped. [`begin`](Backend::begin) works again as soon as
///    the cause is gone.
/// 6. **Threads**: every call may block. A transaction stays on the thread that began it, the next one may begin on
///    another. [`Store::write`](crate::Store::write) calls on a thread that may block, and ends what it has begun also
///    where its caller is cancelled. All other functions call on the thread of their caller.
///
/// [`check_backend`](crate::check_backend) tests 1, 2, 4 and 6, as far as one process can see them.
pub trait Backend: Debug + Send + Sync + Sized + 'static {
    /// An open transaction.
    type Rows<'a>: Rows;

    /// Opens a transaction.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read or written: [`StoreError::File`] where a later attempt may
    /// succeed.
    fn begin(&self) -> Result<Self::Rows<'_>, StoreError>;

    /// The file, or another name of the place, for errors.
    fn path(&self) -> &Path;
}

/// A row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The rows of a store in one transaction, as [`Backend`] requires them. An area exists as soon as it has a row.
pub trait Rows {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    fn get(&self, area: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be written.
    fn put(&self, area: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes a key, and returns whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be written.
    fn remove(&self, area: &str, key: &[u8]) -> Result<bool, StoreError>;

    /// At most `most` rows, from the first key on that is not smaller than this one, in the order of the keys.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    fn scan(&self, area: &str, key: &[u8], most: usize) -> Result<Vec<Row>, StoreError>;

    /// How many rows an area has. May read all of them.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    fn count(&self, area: &str) -> Result<u64, StoreError>;

    /// Removes all rows of an area.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be written.
    fn clear(&self, area: &str) -> Result<(), StoreError>;

    /// Keeps all changes, synced to the disk.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed. Only where the disk fails at the last moment the changes may be found
    /// after all.
    fn commit(self) -> Result<(), StoreError>;
}
