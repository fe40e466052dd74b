//! The database that keeps the rows of a store: redb, SQLite, or one of another crate.
//!
//! All have the same small interface: rows of bytes in named areas, in one transaction. Everything else of a store is
//! written once, above it.

mod conformance;
mod redb;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use self::conformance::{BackendFault, check_backend};
pub use self::redb::{Redb, RedbRows};
pub use self::rows::{Backend, Row, Rows};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Sqlite, SqliteRows};
