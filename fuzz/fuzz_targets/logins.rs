//! Any text is read as a credentials file, as an error of a server and as an address, and no password of an address is
//! shown.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    aether::nats::fuzz_logins(text);
    // A text that looks like the next address is one.
    if !text.contains("://") {
        let shown = aether::medium::without_secrets(&format!("nats://user:s3cret{text}@host"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
});
