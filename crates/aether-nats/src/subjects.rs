//! Subjects: their roots, the inboxes of users, and where answers may go.

use std::fmt::Write as _;

/// The root of the subjects of one kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// `prefix.channel`: waves, and questions from foreign requesters.
    Waves,
    /// `prefix-ask.channel`: questions, and inquiries about whether a channel has listeners. Potential answerers
    /// subscribe to it.
    Questions,
    /// `prefix-seen.channel`: copies of questions and answers. Observers subscribe to it.
    Seen,
}

impl Root {
    pub(super) const fn as_suffix(self) -> &'static str {
        match self {
            Self::Waves => "",
            Self::Questions => "-ask",
            Self::Seen => "-seen",
        }
    }
}

/// `_INBOX.NAME`. It lies below `_INBOX`, so permissions for `_INBOX.>` cover it. Characters that a token of a
/// subject cannot have become `=` and two digits.
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

/// Where answers may go: below `_INBOX`, and below `_R_`, which a server puts in place of an inbox in another
/// account. The asker chooses the subject, and the server lets a program answer to any: so a client without the right
/// to publish somewhere could have a program with more rights do it, and none must have it publish to another channel
/// or to the server's own interfaces.
pub(super) fn may_be_answered(subject: &str) -> bool {
    subject.starts_with("_INBOX.") || subject.starts_with("_R_.")
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
