//! The payload of a benchmark message: its number, its strength, its due time, and padding.
//!
//! Every contestant carries the same bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::schedule::Strength;

/// The default size, in bytes.
pub const DEFAULT_BYTES: usize = 128;
/// The minimum size: number, kind and time.
pub const LEAST_BYTES: usize = 13;

const STRONG: u8 = 1;
const WEAK: u8 = 2;
const END: u8 = 3;

/// A message of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Its number in the schedule.
    pub(crate) number: u32,
    pub(crate) strength: Strength,
    /// When it was due, by [`clock::now`](crate::clock::now).
    pub(crate) due: u64,
}

/// The content of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// A message of the schedule.
    Load(Load),
    /// The end of the schedule.
    End,
}

impl Message {
    /// A freshly allocated payload of `bytes` bytes, at least [`LEAST_BYTES`].
    pub(crate) fn to_payload(self, bytes: usize) -> Bytes {
        let (number, kind, due) = match self {
            Self::Load(Load { number, strength: Strength::Strong, due }) => (number, STRONG, due),
            Self::Load(Load { number, strength: Strength::Weak, due }) => (number, WEAK, due),
            Self::End => (0, END, 0),
        };
        let bytes = bytes.max(LEAST_BYTES);
        let mut payload = BytesMut::with_capacity(bytes);
        payload.put_u32_le(number);
        payload.put_u8(kind);
        payload.put_u64_le(due);
        payload.put_bytes(0, bytes - LEAST_BYTES);
        payload.freeze()
    }

    /// Parses a payload; `None` if no benchmark has sent it.
    pub(crate) fn of_payload(payload: &[u8]) -> Option<Self> {
        let (number, rest) = payload.split_first_chunk()?;
        let (kind, rest) = rest.split_first()?;
        let load = |strength| {
            let due = u64::from_le_bytes(*rest.first_chunk()?);
            Some(Self::Load(Load { number: u32::from_le_bytes(*number), strength, due }))
        };
        match *kind {
            STRONG => load(Strength::Strong),
            WEAK => load(Strength::Weak),
            END => Some(Self::End),
            _ => None,
        }
    }
}

/// A freshly allocated payload of `bytes` bytes, for benchmarks that only count.
#[must_use]
pub fn payload(bytes: usize) -> Bytes {
    Message::Load(Load { number: 0, strength: Strength::Weak, due: 0 }).to_payload(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for strength in Strength::ALL {
            let message = Message::Load(Load { number: 4_000_000_000, strength, due: u64::MAX - 7 });
            let payload = message.to_payload(DEFAULT_BYTES);
            assert_eq!((payload.len(), Message::of_payload(&payload)), (DEFAULT_BYTES, Some(message)));
        }
        assert_eq!(Message::of_payload(&Message::End.to_payload(0)), Some(Message::End));
        for foreign in [&b""[..], b"1234", b"1234\x01567", b"12345", &[0; 128]] {
            assert_eq!(Message::of_payload(foreign), None, "{foreign:?}");
        }
    }
}
