//! What the fuzz targets in `aether-core/fuzz` call, and nobody else: parsers of what others write that are not public. Built
//! with `--cfg fuzzing` only, which cargo-fuzz sets.

use bytes::Bytes;

/// The text of a file with keys, of one with a signing key, and of a list of signers: refused, or read as it is written.
pub fn keys(text: &str) {
    aether_seal::fuzz_keys(text);
}

/// A payload of each kind that the framework sends on its own channels: refused, or understood.
pub fn notices(payload: &[u8]) {
    crate::presence::fuzz_announcements(payload);
    if let Some(echoes) = crate::echo::read(payload) {
        assert_eq!(crate::echo::read(&crate::echo::write(&echoes)), Some(echoes));
    }
    crate::account::fuzz_account(payload);
    crate::medium::fuzz_beat(payload);
}

/// A message that asks to pause, as it comes from the network.
pub fn pauses(message: &Bytes) {
    crate::medium::fuzz_pauses(message);
}

/// The text of a credentials file, of a server's error, and of an address.
pub fn logins(text: &str) {
    crate::medium::fuzz_logins(text);
    // What looks like the next address is one.
    if !text.contains("://") {
        let shown = crate::medium::without_secrets(&format!("nats://user:s3cret{text}@host"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
