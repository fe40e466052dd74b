//! The store behind the log: what it keeps, what it finds after damage and crashes, and how it fails.

#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod damage;
mod failing;
mod keeping;
mod stage;
