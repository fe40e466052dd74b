//! Authenticates our own messages when they return, and server notices about them.
//!
//! Anyone who subscribes to a reply subject, or may publish to it, could forge such a message. Therefore the number of
//! each such message is paired with a token that only this process can compute: the SipHash of the number, with keys
//! drawn from the operating system.

use std::hash::{BuildHasher, RandomState};

#[derive(Debug, Default)]
pub(super) struct Tokens(RandomState);

impl Tokens {
    /// Writes a number and its token as one token of a subject.
    pub(super) fn write(&self, number: u64) -> String {
        format!("{number:x}-{:016x}", self.0.hash_one(number))
    }

    /// Returns the number if the token matches it.
    pub(super) fn read(&self, text: &str) -> Option<u64> {
        let (number, token) = text.split_once('-')?;
        let number = u64::from_str_radix(number, 16).ok()?;
        (u64::from_str_radix(token, 16).ok()? == self.0.hash_one(number)).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_with_its_own_token_only() {
        let (ours, theirs) = (Tokens::default(), Tokens::default());
        for number in [0, 1, u64::MAX] {
            assert_eq!(ours.read(&ours.write(number)), Some(number));
            assert_eq!(ours.read(&theirs.write(number)), None);
        }
        let (one, two) = (ours.write(1), ours.write(2));
        let mixed = format!("{}-{}", &one[..1], two.split_once('-').unwrap().1);
        for other in ["", "1", "-", "1-", "1-0", "x-1", &mixed] {
            assert_eq!(ours.read(other), None, "{other}");
        }
    }
}
