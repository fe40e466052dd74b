//! Sealed waves over a real NATS server, with a hostile client that has no key: what it sees, forges, alters, repeats and
//! moves, and what processes with other keys or none do to each other.

mod attacks;
mod keys;
mod notices;
mod scene;
mod signing;
