//! The durable log of Aether.

#![warn(clippy::disallowed_methods)]

pub mod store;
