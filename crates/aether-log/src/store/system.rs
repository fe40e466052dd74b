//! The writing thread's view of the machine: a clock, writing and syncing. Tests replace it by one that fails.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};

use aether_core::clock::micros_since_1970;

/// The machine, as the writing thread sees it. The default methods call the operating system.
pub(crate) trait System: fmt::Debug + Send + Sync + 'static {
    /// The time in microseconds since 1970.
    fn micros(&self) -> u64 {
        micros_since_1970()
    }

    /// Writes the beginning of these bytes, and returns how many.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    /// Returns when the disk has confirmed what was written.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// The machine as it is.
#[derive(Debug)]
pub(crate) struct Machine;

impl System for Machine {}
