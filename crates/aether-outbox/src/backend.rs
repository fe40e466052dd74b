//! The database that keeps the rows of a store: redb, or SQLite.
//!
//! Both have the same small interface: rows of bytes in named areas, in one transaction. Everything else of a store is
//! written once, above it.

mod redb;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use self::redb::{Redb, RedbRows};
pub use self::rows::{Backend, Row, Rows};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Sqlite, SqliteRows};
