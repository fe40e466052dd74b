//! The medium on a network in memory, in paused time.

mod memory;
mod network;
mod same_run;
