//! Any payload of the framework's own channels (announcements, echoes, accounts, beats of paths) is refused or
//! understood, and what was understood is written and understood again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    aether_core::fuzzing::notices(payload);
    aether::paths::fuzz_beat(payload);
});
