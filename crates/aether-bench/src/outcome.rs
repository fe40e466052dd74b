//! The outcome of a run: which messages were handled and when, and which were lost and why.
//!
//! The sender and the handler, possibly two processes, write it. The report reads it and does all the arithmetic.

use serde::{Deserialize, Serialize};

use crate::losses::Counts;
use crate::pacer::Paced;

/// A handled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// Its number in the schedule.
    pub number: u32,
    /// When its handling ended, by [`clock::now`](crate::clock::now).
    pub done: u64,
}

/// The result of the receiving side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// In the order of handling; empty if messages were only counted.
    pub handled: Vec<Handled>,
    /// The number of handled messages.
    pub count: u64,
    /// When the last one was done, by [`clock::now`](crate::clock::now).
    pub last: u64,
    /// The number of missed messages reported to the receiver.
    pub lagged: u64,
    /// The losses it counted, strong and weak.
    pub lost: [Counts; 2],
}

/// The complete outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When the schedule started, by [`clock::now`](crate::clock::now).
    pub start: u64,
    /// The counts of the sender.
    pub paced: Paced,
    /// The losses that the sending side counted, strong and weak.
    pub lost: [Counts; 2],
    /// The receiving side.
    pub heard: Heard,
}
