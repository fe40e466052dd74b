//! Logs on a bus, the contract of a durable log, and the store in a folder.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod bus;
mod durable;
mod killed;
mod store;
