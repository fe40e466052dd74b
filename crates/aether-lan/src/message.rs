//! The messages between the peers of a network: what is inside the seal.
//!
//! ```text
//! version 2 | kind | number of the sender (8) | parts of the kind, numbers in big-endian | a frame, a table or nothing
//! ```

use bytes::{Buf, BufMut, Bytes};
use smallvec::SmallVec;

use super::lane::Lane;

pub(super) const VERSION: u8 = 2;
/// The header: version, kind, and the sender.
const HEADER: usize = 1 + 1 + 8;
/// A question or a notice goes to at most this many members of groups in one process.
pub(super) const MAX_MEMBERS: usize = 1024;

/// The subscriptions that a question or a notice is for, in one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addressees {
    /// All that hear the channel and are no members of groups.
    pub(super) lone: bool,
    /// The chosen members of groups, by their ids.
    pub(super) members: SmallVec<[u64; 2]>,
}

/// The place of waves among all that their sender has sent to their receiver in the same lane. In a lane messages keep their
/// order, so the receiver knows from it how many waves are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The way of the waves: see [`Sent`]. 0 for waves that are not counted.
    pub(super) way: u32,
    /// The number of waves in front of them.
    pub(super) before: u64,
}

/// The number of waves that were sent to a peer in each lane of waves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// The way on which they are counted. A new one begins each time that the sender meets the receiver. 0 if nothing is
    /// counted.
    pub(super) way: u32,
    /// By [`Lane::place`].
    pub(super) waves: [u64; Lane::OF_WAVES],
}

/// A message of a peer to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Waves for all subscriptions that are no members of groups, or the position of their stream.
    Waves {
        place: Place,
        frame: Bytes,
    },
    /// Waves for one member of a group. `hops` counts the processes that passed them on, because the member had left.
    Share {
        place: Place,
        member: u64,
        hops: u8,
        frame: Bytes,
    },
    /// A question, or with number 0 a notice. The answer goes to `asker`.
    Question {
        asker: u64,
        number: u64,
        hops: u8,
        to: Addressees,
        frame: Bytes,
    },
    Answer {
        number: u64,
        frame: Bytes,
    },
    /// A question or an answer for observers.
    Copy {
        frame: Bytes,
    },
    /// A receiver asks senders to pause.
    Pause {
        frame: Bytes,
    },
    /// The patterns that the sender hears, or the changes of them.
    Table {
        json: Bytes,
    },
    /// The sender knows the receiver's table up to this version.
    Known {
        version: u64,
    },
    /// The sender lacks the receiver's table.
    Missing,
    /// Asks for a `Pong`. Has the version of the sender's table, and what was sent before.
    Ping {
        number: u64,
        version: u64,
        sent: Sent,
    },
    /// The waves of a way that were sent before the ping were received, except for those that are missing. Those are
    /// all that ever were on that way. Has the clock of the sender in microseconds since 1970.
    Pong {
        number: u64,
        clock_micros: u64,
        way: u32,
        missing: u64,
    },
    /// The sender leaves. It has received this number of waves on a way.
    Bye {
        way: u32,
        received: u64,
    },
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MessageError {
    #[error("version {found} of the protocol, and not {VERSION}")]
    Version { found: u8 },
    #[error("no message of this protocol")]
    Malformed,
}

impl Message {
    const fn kind(&self) -> u8 {
        match self {
            Self::Waves { .. } => 1,
            Self::Share { .. } => 2,
            Self::Question { .. } => 3,
            Self::Answer { .. } => 4,
            Self::Copy { .. } => 5,
            Self::Pause { .. } => 6,
            Self::Table { .. } => 7,
            Self::Known { .. } => 8,
            Self::Missing => 9,
            Self::Ping { .. } => 10,
            Self::Pong { .. } => 11,
            Self::Bye { .. } => 12,
        }
    }

    /// The frame or the table in it.
    pub(super) fn body(&self) -> &[u8] {
        match self {
            Self::Waves { frame, .. }
            | Self::Share { frame, .. }
            | Self::Question { frame, .. }
            | Self::Answer { frame, .. }
            | Self::Copy { frame }
            | Self::Pause { frame } => frame,
            Self::Table { json } => json,
            _ => &[],
        }
    }

    /// The bytes of a message of this node.
    pub(super) fn write(&self, from: u64) -> Vec<u8> {
        let body = self.body();
        let mut out = Vec::with_capacity(HEADER + 32 + body.len());
        out.put_u8(VERSION);
        out.put_u8(self.kind());
        out.put_u64(from);
        match self {
            Self::Waves { place, .. } => place.write(&mut out),
            Self::Share { place, member, hops, .. } => {
                place.write(&mut out);
                out.put_u64(*member);
                out.put_u8(*hops);
            }
            Self::Question { asker, number, hops, to, .. } => {
                out.put_u64(*asker);
                out.put_u64(*number);
                out.put_u8(*hops);
                out.put_u8(u8::from(to.lone));
                out.put_u16(u16::try_from(to.members.len()).unwrap_or(u16::MAX));
                to.members.iter().for_each(|member| out.put_u64(*member));
            }
            Self::Answer { number, .. } => out.put_u64(*number),
            Self::Known { version } => out.put_u64(*version),
            Self::Ping { number, version, sent } => {
                out.put_u64(*number);
                out.put_u64(*version);
                out.put_u32(sent.way);
                sent.waves.iter().for_each(|waves| out.put_u64(*waves));
            }
            Self::Pong { number, clock_micros, way, missing } => {
                out.put_u64(*number);
                out.put_u64(*clock_micros);
                out.put_u32(*way);
                out.put_u64(*missing);
            }
            Self::Bye { way, received } => {
                out.put_u32(*way);
                out.put_u64(*received);
            }
            _ => {}
        }
        out.extend_from_slice(body);
        out
    }

    /// The sender and the message.
    pub(super) fn read(mut bytes: Bytes) -> Result<(u64, Self), MessageError> {
        let malformed = MessageError::Malformed;
        let found = bytes.try_get_u8().map_err(|_| malformed)?;
        if found != VERSION {
            return Err(MessageError::Version { found });
        }
        let kind = bytes.try_get_u8().map_err(|_| malformed)?;
        let from = bytes.try_get_u64().map_err(|_| malformed)?;
        let message = Self::read_parts(kind, bytes).ok_or(malformed)?;
        Ok((from, message))
    }

    fn read_parts(kind: u8, mut rest: Bytes) -> Option<Self> {
        let mut number = || rest.try_get_u64().ok();
        Some(match kind {
            1 => Self::Waves { place: Place::read(&mut rest)?, frame: rest },
            2 => {
                let place = Place::read(&mut rest)?;
                let (member, hops) = (rest.try_get_u64().ok()?, rest.try_get_u8().ok()?);
                Self::Share { place, member, hops, frame: rest }
            }
            3 => {
                let (asker, number) = (number()?, number()?);
                let hops = rest.try_get_u8().ok()?;
                let lone = rest.try_get_u8().ok()? == 1;
                let count = usize::from(rest.try_get_u16().ok()?);
                if count > MAX_MEMBERS {
                    return None;
                }
                let members = (0..count).map(|_| rest.try_get_u64().ok()).collect::<Option<_>>()?;
                Self::Question { asker, number, hops, to: Addressees { lone, members }, frame: rest }
            }
            4 => Self::Answer { number: number()?, frame: rest },
            5 => Self::Copy { frame: rest },
            6 => Self::Pause { frame: rest },
            7 => Self::Table { json: rest },
            8 => Self::Known { version: number()? },
            9 => Self::Missing,
            10 => {
                let (number, version) = (number()?, number()?);
                let mut sent = Sent { way: rest.try_get_u32().ok()?, ..Sent::default() };
                for waves in &mut sent.waves {
                    *waves = rest.try_get_u64().ok()?;
                }
                Self::Ping { number, version, sent }
            }
            11 => {
                let (number, clock_micros) = (number()?, number()?);
                let (way, missing) = (rest.try_get_u32().ok()?, rest.try_get_u64().ok()?);
                Self::Pong { number, clock_micros, way, missing }
            }
            12 => Self::Bye { way: rest.try_get_u32().ok()?, received: rest.try_get_u64().ok()? },
            _ => return None,
        })
    }
}

impl Place {
    fn write(self, out: &mut Vec<u8>) {
        out.put_u32(self.way);
        out.put_u64(self.before);
    }

    fn read(bytes: &mut Bytes) -> Option<Self> {
        Some(Self { way: bytes.try_get_u32().ok()?, before: bytes.try_get_u64().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_message_reads_as_it_was_written() {
        let frame = Bytes::from_static(b"frame");
        let to = Addressees { lone: true, members: [7, 8, 9].into_iter().collect() };
        let place = Place { way: 2, before: 3 };
        let messages = [
            Message::Waves { place, frame: frame.clone() },
            Message::Share { place, member: 3, hops: 1, frame: frame.clone() },
            Message::Question { asker: 1, number: 2, hops: 0, to, frame: frame.clone() },
            Message::Answer { number: 4, frame: frame.clone() },
            Message::Copy { frame: frame.clone() },
            Message::Pause { frame: frame.clone() },
            Message::Table { json: frame },
            Message::Known { version: 5 },
            Message::Missing,
            Message::Ping { number: 6, version: 7, sent: Sent { way: 8, waves: [1, 2, 3, 4, 5, 6] } },
            Message::Pong { number: 8, clock_micros: 9, way: 10, missing: 11 },
            Message::Bye { way: 12, received: 13 },
        ];
        for message in messages {
            assert_eq!(Message::read(message.write(17).into()), Ok((17, message)));
        }
        let mut other = Message::Missing.write(1);
        other[0] = 1;
        assert_eq!(Message::read(other.into()), Err(MessageError::Version { found: 1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            if let Ok((from, message)) = Message::read(bytes.into()) {
                let (again, same) = Message::read(message.write(from).into()).unwrap();
                prop_assert_eq!((from, message), (again, same));
            }
        }
    }
}
