//! Stores in SQLite files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_files::lock_file::LockFile;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, ToSql, params};

use super::rows::{Backend, Row, Rows};
use crate::error::{OpenError, StoreError};
use crate::lock::lock;

/// The rows of the store, beside the tables of the service.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS aether_rows \
    (area TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (area, key))";
/// For a reader from outside, such as the program `sqlite3`, that holds a lock.
const BUSY_WITHIN: Duration = Duration::from_secs(5);

/// A SQLite file, with a write-ahead log that is synced at each commit.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    connection: Mutex<Connection>,
    _lock: LockFile,
}

impl Sqlite {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let prepared = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_WITHIN)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(TABLE)?;
            Ok(connection)
        };
        let connection = prepared().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                OpenError::Foreign { path: path.to_owned(), source: Box::new(error) }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                OpenError::InUse { path: path.to_owned(), process: None }
            }
            _ => OpenError::Store(StoreError::File { path: path.to_owned(), source: Box::new(error) }),
        })?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection), _lock: lock })
    }

    fn failure(&self, error: rusqlite::Error) -> StoreError {
        StoreError::File { path: self.path.clone(), source: Box::new(error) }
    }
}

impl Backend for Sqlite {
    type Rows<'a> = SqliteRows<'a>;

    fn begin(&self) -> Result<SqliteRows<'_>, StoreError> {
        let connection = self.connection.lock();
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| self.failure(error))?;
        Ok(SqliteRows { backend: self, connection })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// A transaction of a SQLite file.
pub struct SqliteRows<'a> {
    backend: &'a Sqlite,
    pub(crate) connection: MutexGuard<'a, Connection>,
}

impl SqliteRows<'_> {
    fn change(&self, sql: &str, values: &[&dyn ToSql]) -> Result<usize, StoreError> {
        let changed = self.connection.prepare_cached(sql).and_then(|mut change| change.execute(values));
        changed.map_err(|error| self.backend.failure(error))
    }
}

impl Rows for SqliteRows<'_> {
    fn get(&self, area: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT value FROM aether_rows WHERE area = ?1 AND key = ?2";
        let found = self.connection.prepare_cached(sql);
        let found =
            found.and_then(|mut found| found.query_row(params![area, key], |row| row.get(0)).optional());
        found.map_err(|error| self.backend.failure(error))
    }

    fn put(&self, area: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT INTO aether_rows (area, key, value) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (area, key) DO UPDATE SET value = excluded.value";
        self.change(sql, params![area, key, value]).map(drop)
    }

    fn remove(&self, area: &str, key: &[u8]) -> Result<bool, StoreError> {
        let sql = "DELETE FROM aether_rows WHERE area = ?1 AND key = ?2";
        Ok(self.change(sql, params![area, key])? > 0)
    }

    fn scan(&self, area: &str, key: &[u8], most: usize) -> Result<Vec<Row>, StoreError> {
        let sql = "SELECT key, value FROM aether_rows WHERE area = ?1 AND key >= ?2 ORDER BY key LIMIT ?3";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.connection.prepare_cached(sql).and_then(|mut rows| {
            rows.query_map(params![area, key, most], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        });
        rows.map_err(|error| self.backend.failure(error))
    }

    fn count(&self, area: &str) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM aether_rows WHERE area = ?1";
        let counted = self.connection.query_row(sql, params![area], |row| row.get::<_, i64>(0));
        let counted = counted.map_err(|error| self.backend.failure(error))?;
        Ok(counted.unsigned_abs())
    }

    fn clear(&self, area: &str) -> Result<(), StoreError> {
        self.change("DELETE FROM aether_rows WHERE area = ?1", params![area]).map(drop)
    }

    fn commit(self) -> Result<(), StoreError> {
        // Where the commit fails, for example because the disk is full, dropping `self` rolls back.
        self.connection.execute_batch("COMMIT").map_err(|error| self.backend.failure(error))
    }
}

impl Drop for SqliteRows<'_> {
    fn drop(&mut self) {
        // Outside of a transaction SQLite is in its mode of one commit for each change.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(path = %self.backend.path.display(), %error, "a transaction was not rolled back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sqlite;

    #[test]
    fn it_keeps_what_is_required_of_a_backend() {
        let folder = tempfile::tempdir().unwrap();
        crate::check_backend(|| Sqlite::open(&folder.path().join("shop.sqlite"))).unwrap();
    }
}
