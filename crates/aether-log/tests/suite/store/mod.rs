//! The store behind the log: what it keeps, what it finds after damage and crashes, and how it fails.

mod damage;
pub(crate) mod failing;
mod keeping;
pub(crate) mod stage;
