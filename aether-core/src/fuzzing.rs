//! What the fuzz targets in `fuzz` call, and nobody else: parsers of what others write that are not public. Built with
//! `--cfg fuzzing` only, which cargo-fuzz sets.

/// A payload of each kind that the framework sends on its own channels: refused, or understood.
pub fn notices(payload: &[u8]) {
    crate::presence::fuzz_announcements(payload);
    if let Some(echoes) = crate::echo::read(payload) {
        assert_eq!(crate::echo::read(&crate::echo::write(&echoes)), Some(echoes));
    }
    crate::account::fuzz_account(payload);
}
