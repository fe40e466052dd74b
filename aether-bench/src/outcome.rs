//! What a run left behind: which messages were handled and when, and which were lost and why.
//!
//! Written by the sender and the handler, which may be two processes, and read by the report, which does all the
//! arithmetic.

use serde::{Deserialize, Serialize};

use crate::losses::Counts;
use crate::pacer::Paced;

/// One message that was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// Its number in the schedule.
    pub number: u32,
    /// When the handler was done with it, by [`clock::now`](crate::clock::now).
    pub done: u64,
}

/// What the receiving side knows in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// In the order of handling; empty if they were only counted.
    pub handled: Vec<Handled>,
    /// How many were handled.
    pub count: u64,
    /// When the last one was done, by [`clock::now`](crate::clock::now).
    pub last: u64,
    /// What the receiver was told that it had missed, without knowing which.
    pub lagged: u64,
    /// What it lost and counted, strong and weak.
    pub lost: [Counts; 2],
}

/// All that is known of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When the schedule started, by [`clock::now`](crate::clock::now).
    pub start: u64,
    /// What the sender sent, and what it sent late.
    pub paced: Paced,
    /// What the sending side lost and counted, strong and weak.
    pub lost: [Counts; 2],
    /// The receiving side.
    pub heard: Heard,
}
