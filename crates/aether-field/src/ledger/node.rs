//! The writers of a ledger, which have names, as writers of a field, which have numbers.

use sha2::{Digest as _, Sha256};

use crate::core::WriterId;

/// The writer of a name. Exported names are numbers already; others become 8 bytes of their SHA-256, the same
/// everywhere.
pub(super) fn writer_of(name: &str) -> WriterId {
    let is_number = name.len() == 16 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if let Some(number) = is_number.then(|| u64::from_str_radix(name, 16).ok()).flatten() {
        return WriterId(number);
    }
    let hash = Sha256::digest(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    WriterId(u64::from_be_bytes(first))
}

pub(super) fn name_of(writer: WriterId) -> String {
    writer.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_was_exported_is_the_same_writer() {
        let writer = writer_of("node-a");
        assert_eq!(writer_of(&name_of(writer)), writer);
        assert_ne!(writer_of("node-b"), writer);
        assert_eq!(writer_of(&name_of(WriterId(7))), WriterId(7));
    }
}
