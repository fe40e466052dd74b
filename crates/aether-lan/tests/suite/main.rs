//! The medium on a network in memory, in paused time.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod memory;
mod network;
mod same_run;
