//! The command `aether`.
fn main() {}
