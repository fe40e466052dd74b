//! The transactional outbox and inbox of Aether: a service's own change and its waves in one transaction, and effects that
//! happen exactly once.
//!
//! A [`Store`] is a file of the service. A [`Transaction`] changes its tables, [emits](Transaction::emit) waves, and notes
//! that a wave was handled ([`once`](Transaction::once)): all of it is committed, or nothing. A [`Relay`] emits what was
//! committed, in order, through crashes.
//!
//! On this stand [projections](Projection), which make state of the waves of a log, and [sagas](Sagas), whose steps go on or
//! are undone after a crash.
//!
//! # Features
//! - `sqlite`: stores in SQLite files, beside the redb files that are the default.
//! - `postgres`: `once` and the outbox in transactions of a service's own Postgres: `PostgresStore`.

mod area;
mod backend;
mod error;
mod held;
mod ledger;
mod lock;
mod memory;
mod once;
#[cfg(feature = "postgres")]
mod postgres;
mod projection;
mod relay;
mod saga;
mod shared;
mod store;
mod stored_wave;
mod table;
mod transaction;

pub use backend::{Backend, BackendFault, Redb, RedbRows, Row, Rows, check_backend};
#[cfg(feature = "sqlite")]
pub use backend::{Sqlite, SqliteRows};
pub use error::{OpenError, StoreError};
pub use ledger::OutboxLedger;
pub use once::OnceKey;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
pub use projection::{Projection, ProjectionError};
pub use relay::{Relay, RelayAccount, RelayError};
pub use saga::{
    Run, SagaBuilder, SagaError, SagaLedger, SagaRunner, Sagas, Standing, StandingSaga, Step, StepError,
    StuckSaga,
};
pub use store::{RefusedWave, Store, StoreBuilder};
pub use table::Table;
pub use transaction::Transaction;
