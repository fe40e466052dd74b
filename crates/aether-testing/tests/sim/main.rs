//! Whole systems on the simulator: several processes, traffic as it is outside of tests, faults by seed.
//!
//! Each suite has a scenario in which nothing is lost, and one in which faults happen and each loss has to be counted.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod accounts;
mod asking;
mod bridges;
mod durable;
mod echoes;
mod field;
mod floors;
mod later;
mod orders;
mod outbox;
mod participants;
mod paths;
mod pressure;
mod reopening;
mod repeated;
mod roster;
mod stored_field;
mod tables;
mod traffic;
mod trouble;
