//! Versions of registers as text, and the writers of clients.

use aether_field::core::{Stamp, WriterId};
use sha2::{Digest as _, Sha256};

/// The text of a version. Clients do not look into it.
pub(super) fn write(stamp: Stamp) -> String {
    stamp.to_string()
}

/// The version of a text; `None` if it is not one.
pub(super) fn read(text: &str) -> Option<Stamp> {
    let (time, writer) = text.split_once('@')?;
    let (micros, logical) = time.split_once('.')?;
    let writer = u64::from_str_radix(writer, 16).ok()?;
    Some(Stamp { micros: micros.parse().ok()?, logical: logical.parse().ok()?, writer: WriterId(writer) })
}

/// The writer of a client: the same at all gateways, and one that nobody can choose.
pub(super) fn writer(client: &str) -> WriterId {
    let digest = Sha256::new().chain_update(b"aether.field.client\0").chain_update(client).finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    WriterId(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_was_written() {
        let stamp = Stamp { micros: 1_700_000_000_000_000, logical: 7, writer: writer("tab") };
        assert_eq!(read(&write(stamp)), Some(stamp));
        for text in ["", "1.2", "1@ff", "x.2@ff", "1.2@zz", "99999999999999999999.0@0"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
