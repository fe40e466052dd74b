//! Numbered examples, in reading order: each is one file in `examples/`, ends by itself and checks its results.
//!
//! `cargo run -p aether-examples --example 01_hello`. They share no code, so each file can be copied.

// The tests of this crate compile and run the program of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
