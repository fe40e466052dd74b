//! What a message of a benchmark carries: its number and its strength, and bytes to make it as large as wished.
//!
//! Every contestant carries the same bytes. When a message was due is not in it: the sender has the schedule.

use bytes::{BufMut, Bytes, BytesMut};

use crate::schedule::Strength;

/// The size where nothing else is said, in bytes.
pub const DEFAULT_BYTES: usize = 128;
/// The number, and the kind of the message.
pub const LEAST_BYTES: usize = 5;

const STRONG: u8 = 1;
const WEAK: u8 = 2;
const END: u8 = 3;

/// What a payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// One of the schedule, by its number.
    Load { number: u32, strength: Strength },
    /// All of the schedule have been sent.
    End,
}

impl Message {
    /// A payload of `bytes` bytes, freshly allocated, or of five if that is more.
    pub(crate) fn to_payload(self, bytes: usize) -> Bytes {
        let (number, kind) = match self {
            Self::Load { number, strength: Strength::Strong } => (number, STRONG),
            Self::Load { number, strength: Strength::Weak } => (number, WEAK),
            Self::End => (0, END),
        };
        let bytes = bytes.max(LEAST_BYTES);
        let mut payload = BytesMut::with_capacity(bytes);
        payload.put_u32_le(number);
        payload.put_u8(kind);
        payload.put_bytes(0, bytes - LEAST_BYTES);
        payload.freeze()
    }

    /// `None` for what no benchmark has sent.
    pub(crate) fn of_payload(payload: &[u8]) -> Option<Self> {
        let (number, rest) = payload.split_first_chunk()?;
        let number = u32::from_le_bytes(*number);
        match *rest.first()? {
            STRONG => Some(Self::Load { number, strength: Strength::Strong }),
            WEAK => Some(Self::Load { number, strength: Strength::Weak }),
            END => Some(Self::End),
            _ => None,
        }
    }
}

/// A freshly allocated payload of so many bytes, for benchmarks that only count.
#[must_use]
pub fn payload(bytes: usize) -> Bytes {
    Message::Load { number: 0, strength: Strength::Weak }.to_payload(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for strength in Strength::ALL {
            let message = Message::Load { number: 4_000_000_000, strength };
            let payload = message.to_payload(DEFAULT_BYTES);
            assert_eq!((payload.len(), Message::of_payload(&payload)), (DEFAULT_BYTES, Some(message)));
        }
        assert_eq!(Message::of_payload(&Message::End.to_payload(0)), Some(Message::End));
        for foreign in [&b""[..], b"1234", b"12345", &[0; 128]] {
            assert_eq!(Message::of_payload(foreign), None, "{foreign:?}");
        }
    }
}
