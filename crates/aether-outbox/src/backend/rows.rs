//! The interface of a backend: rows of bytes in named areas, in one transaction.

use std::fmt::Debug;
use std::path::Path;

use crate::error::StoreError;

mod sealed {
    /// Implemented by the backends of this crate only.
    pub trait Sealed {}
}
pub(super) use sealed::Sealed;

/// A kind of file that a store is kept in. Implemented by [`Redb`](crate::Redb) and, with the feature `sqlite`, by `Sqlite`.
pub trait Backend: Sealed + Debug + Send + Sync + Sized + 'static {
    /// An open transaction.
    type Rows<'a>: Rows;

    /// Opens a transaction, and waits while another one is open.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read or written.
    fn begin(&self) -> Result<Self::Rows<'_>, StoreError>;

    /// The file.
    fn path(&self) -> &Path;
}

/// A row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The rows of a store in one transaction. Dropped without a commit, nothing has changed.
pub trait Rows {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    fn get(&self, area: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be written.
    fn put(&self, area: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes a key, and returns whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be written.
    fn remove(&self, area: &str, key: &[u8]) -> Result<bool, StoreError>;

    /// The rows from this key on, in the order of the keys.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    fn from(&self, area: &str, key: &[u8], most: usize) -> Result<Vec<Row>, StoreError>;

    /// How many rows an area has. May read all of them.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    fn count(&self, area: &str) -> Result<u64, StoreError>;

    /// Removes all rows of an area.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be written.
    fn clear(&self, area: &str) -> Result<(), StoreError>;

    /// Keeps all changes, synced to the disk.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed.
    fn commit(self) -> Result<(), StoreError>;
}
