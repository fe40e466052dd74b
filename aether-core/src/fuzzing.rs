//! Calls private parsers of foreign input, for the fuzz targets in `fuzz` alone. Built only with `--cfg fuzzing`, which
//! cargo-fuzz sets.

/// A payload of each kind that the framework sends on its own channels: refused, or understood.
pub fn notices(payload: &[u8]) {
    crate::presence::fuzz_announcements(payload);
    if let Some(echoes) = crate::echo::read(payload) {
        assert_eq!(crate::echo::read(&crate::echo::write(&echoes)), Some(echoes));
    }
    crate::account::fuzz_account(payload);
}
