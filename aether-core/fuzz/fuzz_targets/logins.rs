//! Any text is read as a credentials file, as an error of a server and as an address, and no password of an address is shown.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| aether_core::fuzzing::logins(text));
