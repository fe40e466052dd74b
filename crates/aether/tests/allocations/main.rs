//! What is allocated, and how often. A program of its own, because it needs a counting allocator.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod detectors;
mod following;
mod inbox;
mod joins;
mod routes;
mod vibrator;
mod waves;

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;
