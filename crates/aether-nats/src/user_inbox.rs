//! The subject below which a user of a NATS server hears answers: a leaf for the medium, which uses it, and for rules, which
//! print the permission that it needs.

use std::fmt::Write as _;

/// `_INBOX.NAME`. It lies below `_INBOX`, so permissions for `_INBOX.>` cover it. Characters that a token of a subject cannot
/// have become `=` and two digits.
pub(crate) fn user_inbox(name: &str) -> String {
    let mut subject = "_INBOX.".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            subject.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(subject, "={byte:02X}");
        }
    }
    subject
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_token_and_no_two_names_share_one() {
        assert_eq!(user_inbox("sensor-7_a"), "_INBOX.sensor-7_a");
        assert_eq!(user_inbox("a.b *>="), "_INBOX.a=2Eb=20=2A=3E=3D");
        assert_eq!(user_inbox("ä"), "_INBOX.=C3=A4");
    }
}
