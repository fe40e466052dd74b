//! What senders and receivers of a hopping channel tell each other, and how it is written: see `protocol/README.md`.
//!
//! On names that hop as well, sealed with the key, so that nobody else can send a channel astray.

use serde::{Deserialize, Serialize};

use super::hop::Hop;
use super::sequence::SEAL_BYTES;
use crate::channel::Channel;

/// The most bytes of a message, and the most entries of a list in it.
const MAX_BYTES: usize = 16 << 10;
const MAX_ENTRIES: usize = 256;

/// A number that JSON cannot hold, as hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Hex(pub(super) u64);

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        format!("{:x}", hex.0)
    }
}

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "lowercase")]
pub(super) enum Said {
    /// By a sender.
    Beacon(Beacon),
    /// By a receiver.
    Report(Report),
}

/// What a sender has sent, and on which lanes it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Beacon {
    /// Its instance number.
    pub(super) sender: Hex,
    /// When this is said.
    pub(super) slot: u64,
    /// The map in force: the lanes in use, the lowest bit for lane 0.
    pub(super) lanes: Hex,
    /// How often the map has changed.
    pub(super) map: u32,
    /// The next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Next>,
    /// How many waves it sent: slot, count.
    pub(super) sent: Vec<(u64, u64)>,
}

/// A map that is to come into force, if all receivers know of it by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Next {
    pub(super) map: u32,
    pub(super) lanes: Hex,
    /// From which slot on.
    pub(super) from: u64,
}

/// What a receiver has heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// Its instance number.
    pub(super) receiver: Hex,
    /// When this is said.
    pub(super) slot: u64,
    /// What it knows of each sender.
    pub(super) senders: Vec<Heard>,
}

/// What a receiver has heard of one sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Heard {
    pub(super) sender: Hex,
    /// The latest map it knows of.
    pub(super) map: u32,
    /// The slots that it was there for from beginning to end, and how many waves it heard: slot, count.
    pub(super) waves: Vec<(u64, u64)>,
    /// Of the same slots, those in which it heard a beacon.
    pub(super) beacons: Vec<u64>,
}

impl Said {
    pub(super) fn slot(&self) -> u64 {
        match self {
            Self::Beacon(beacon) => beacon.slot,
            Self::Report(report) => report.slot,
        }
    }

    /// The seal and what it is over; nothing if the slot's key was forgotten.
    pub(super) fn write(&self, hop: &Hop, channel: &Channel) -> Option<Vec<u8>> {
        // Numbers, texts and lists of them can always be written.
        let said = serde_json::to_vec(self).ok()?;
        let seal = hop.sequence_of().seal(channel, self.slot(), &said)?;
        Some([&seal[..], &said].concat())
    }

    /// What was said near a time, by somebody who has the key; nothing else.
    pub(super) fn read(hop: &Hop, channel: &Channel, payload: &[u8], now: u64) -> Option<Self> {
        if payload.len() > MAX_BYTES {
            return None;
        }
        let (seal, said) = payload.split_at_checked(SEAL_BYTES)?;
        // Before anything is read, the seal for one of the slots that it can be of.
        hop.schedule()
            .heard(now)
            .find(|slot| hop.sequence_of().is_sealed(channel, *slot, said, seal))
            .and_then(|slot| {
                let said: Self = serde_json::from_slice(said).ok()?;
                let is_short = match &said {
                    Self::Beacon(beacon) => beacon.sent.len() <= MAX_ENTRIES,
                    Self::Report(report) => {
                        report.senders.iter().map(|s| 1 + s.waves.len() + s.beacons.len()).sum::<usize>()
                            <= 4 * MAX_ENTRIES
                    }
                };
                (said.slot() == slot && is_short).then_some(said)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEACON: &str = r#"{"said":"beacon","sender":"1f9a3c5b7d2e4f60","slot":1700000000,"lanes":"fff7","map":2,"next":{"map":3,"lanes":"ffff","from":1700000003},"sent":[[1699999999,12]]}"#;
    const REPORT: &str = r#"{"said":"report","receiver":"2b","slot":1700000000,"senders":[{"sender":"1f9a3c5b7d2e4f60","map":3,"waves":[[1699999998,11]],"beacons":[1699999998]}]}"#;

    fn hop(key: &[u8]) -> Hop {
        Hop::keyed(key).build().unwrap()
    }

    #[test]
    fn messages_are_written_as_the_protocol_says() {
        for documented in [BEACON, REPORT] {
            assert!(include_str!("../../../protocol/README.md").contains(documented));
            let said: Said = serde_json::from_str(documented).unwrap();
            assert_eq!(serde_json::to_string(&said).unwrap(), documented);
        }
    }

    #[test]
    fn what_is_said_is_read_with_the_key_at_its_time_on_its_channel_and_not_otherwise() {
        let (ours, theirs) = (hop(b"0123456789abcdef"), hop(b"0123456789abcdeF"));
        let (channel, other) = (Channel::new("orders").unwrap(), Channel::new("orders.x").unwrap());
        let said: Said = serde_json::from_str(BEACON).unwrap();
        let written = said.write(&ours, &channel).unwrap();
        let now = 1_700_000_000 * 1_000_000_000 + 1;
        assert_eq!(Said::read(&ours, &channel, &written, now), Some(said));
        assert_eq!(Said::read(&theirs, &channel, &written, now), None);
        assert_eq!(Said::read(&ours, &other, &written, now), None);
        assert_eq!(Said::read(&ours, &channel, &written, now + 2_000_000_000), None);
        for place in 0..written.len() {
            let mut forged = written.clone();
            forged[place] ^= 1;
            assert_eq!(Said::read(&ours, &channel, &forged, now), None, "byte {place}");
        }
        assert_eq!(Said::read(&ours, &channel, &written[..10], now), None);
        assert_eq!(Said::read(&ours, &channel, &vec![0; MAX_BYTES + 1], now), None);
    }

    #[test]
    fn a_message_that_is_sealed_for_another_slot_than_it_says_is_refused() {
        let (ours, channel) = (hop(b"0123456789abcdef"), Channel::new("orders").unwrap());
        let seal = ours.sequence_of().seal(&channel, 1_700_000_001, BEACON.as_bytes()).unwrap();
        let written = [&seal[..], BEACON.as_bytes()].concat();
        assert_eq!(Said::read(&ours, &channel, &written, 1_700_000_001 * 1_000_000_000), None);
    }
}
