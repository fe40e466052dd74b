//! Stores in redb files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether_files::lock_file::LockFile;
use aether_files::redb_file::open_or_make;
use parking_lot::Mutex;
use redb::{
    Database, DatabaseError, ReadableTable as _, ReadableTableMetadata as _, StorageError, Table,
    TableDefinition, WriteTransaction,
};

use super::rows::{Backend, Row, Rows};
use crate::error::{OpenError, StoreError};
use crate::lock::lock;

/// A redb file.
#[derive(Debug)]
pub struct Redb {
    path: PathBuf,
    /// Closed after an error of the operating system: redb then refuses everything until the file is opened again, which
    /// the next transaction does.
    database: Mutex<Option<Arc<Database>>>,
    _lock: LockFile,
}

/// Each page is compared with its checksum when a file is opened: without that, redb may panic at a damaged page.
fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    // redb's default is 1 GiB.
    builder.set_cache_size(64 << 20).set_check_integrity_on_open(true);
    open_or_make(&builder, path)
}

impl Redb {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let database = open_file(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned(), process: None },
            DatabaseError::Storage(StorageError::Io(source))
                if source.kind() != std::io::ErrorKind::InvalidData =>
            {
                OpenError::io(path, "open", source)
            }
            error => OpenError::Foreign { path: path.to_owned(), source: Box::new(error) },
        })?;
        let database = Mutex::new(Some(Arc::new(database)));
        Ok(Self { path: path.to_owned(), database, _lock: lock })
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let mut slot = self.database.lock();
        if let Some(database) = &*slot {
            return Ok(Arc::clone(database));
        }
        let database = Arc::new(open_file(&self.path).map_err(|error| self.failure(error))?);
        *slot = Some(Arc::clone(&database));
        Ok(database)
    }

    /// An error of the file. After one of the operating system the file is opened again by the next transaction.
    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
            *self.database.lock() = None;
        }
        self.failure(error)
    }

    fn failure(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::File { path: self.path.clone(), source: Box::new(error.into()) }
    }
}

impl Backend for Redb {
    type Rows<'a> = RedbRows<'a>;

    fn begin(&self) -> Result<RedbRows<'_>, StoreError> {
        let transaction = self.database()?.begin_write().map_err(|error| self.failed(error))?;
        Ok(RedbRows { backend: self, transaction })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// A transaction of a redb file.
pub struct RedbRows<'a> {
    backend: &'a Redb,
    pub(crate) transaction: WriteTransaction,
}

impl RedbRows<'_> {
    fn within<T>(
        &self,
        area: &str,
        act: impl FnOnce(&mut Table<'_, &'static [u8], &'static [u8]>) -> Result<T, StorageError>,
    ) -> Result<T, StoreError> {
        let table = self.transaction.open_table(TableDefinition::new(area));
        let mut table = table.map_err(|error| self.backend.failed(error))?;
        act(&mut table).map_err(|error| self.backend.failed(error))
    }
}

impl Rows for RedbRows<'_> {
    fn get(&self, area: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.within(area, |table| Ok(table.get(key)?.map(|value| value.value().to_vec())))
    }

    fn put(&self, area: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.within(area, |table| table.insert(key, value).map(drop))
    }

    fn remove(&self, area: &str, key: &[u8]) -> Result<bool, StoreError> {
        self.within(area, |table| Ok(table.remove(key)?.is_some()))
    }

    fn scan(&self, area: &str, key: &[u8], most: usize) -> Result<Vec<Row>, StoreError> {
        self.within(area, |table| {
            let rows = table.range::<&[u8]>(key..)?.take(most);
            rows.map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))).collect()
        })
    }

    fn count(&self, area: &str) -> Result<u64, StoreError> {
        self.within(area, |table| table.len())
    }

    fn clear(&self, area: &str) -> Result<(), StoreError> {
        self.within(area, |table| table.retain(|_, _| false))
    }

    fn commit(self) -> Result<(), StoreError> {
        let Self { backend, transaction } = self;
        transaction.commit().map_err(|error| backend.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::Redb;

    #[test]
    fn it_keeps_what_is_required_of_a_backend() {
        let folder = tempfile::tempdir().unwrap();
        crate::check_backend(|| Redb::open(&folder.path().join("shop.redb"))).unwrap();
    }
}
