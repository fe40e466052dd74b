//! Numbered examples, to be read in order: each is one file in `examples/`, ends by itself and checks what it shows.
//!
//! `cargo run -p aether-examples --example 01_hello`. There are no shared parts: each file can be copied as it is.
