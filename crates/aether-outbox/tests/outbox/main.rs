//! Stores, transactions and relays, in redb and in SQLite, and processes that are killed.

#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod backends;
mod corpus;
mod failing;
mod killing;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_server;
mod projecting;
mod relaying;
mod replaying;
mod sagas;
mod stage;
mod transactions;
