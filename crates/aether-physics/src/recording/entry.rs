//! The entries of a recording.

use std::time::Duration;

use aether_core::{Pattern, Wave};

/// One entry of a recording.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RecordedEntry {
    /// A wave was observed. Its payload is a hash of the original content, and its age is that at the observation.
    Wave(Wave),
    /// The observer lost waves.
    Lost {
        /// Their number.
        waves: u64,
        /// The time before the entry in which they were lost.
        within: Duration,
    },
    /// The observer did not run, for instance because its process was stopped.
    Paused {
        /// The time before the entry in which it did not run.
        lasted: Duration,
    },
    /// The observer's connection was lost or made again.
    Link {
        /// Whether it is connected from here on.
        connected: bool,
    },
    /// The subscriptions of the vibrators of one name, as announced.
    Tuned {
        /// The name.
        vibrator: String,
        /// The patterns, at most 256.
        patterns: Vec<Pattern>,
    },
    /// The truth about a fault, noted by the program that made it. The detectors do not get it.
    Fault {
        /// The fault.
        fault: Fault,
        /// Whether it begins here; otherwise it ends here.
        begins: bool,
    },
}

/// A fault that was made on purpose while a recording ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind, such as `stopped`.
    pub kind: String,
    /// The name of the service at fault; empty for the medium.
    pub service: String,
}
