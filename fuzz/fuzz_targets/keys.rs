//! Any text is refused as a file of keys, of a signing key and as a list of signers, or it is read as it is written.
//! The input is a text, or the rest of a line after the beginning of a key, so that more of it is read.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    aether::seal::fuzz_keys(text);
    for begin in ["seal aether-key-1:", "sign aether-signing-key-1:", "shop aether-signer-1:"] {
        aether::seal::fuzz_keys(&format!("{begin}{text}"));
    }
});
