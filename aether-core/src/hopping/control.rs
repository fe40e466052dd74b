//! Control messages: what the senders and receivers of an adaptive channel tell each other.
//!
//! They travel on names that hop as well, and are sealed with the key, so that nobody else can lead a channel astray.
//! `protocol/README.md` describes their bytes. Both ends hold a [`ControlChannel`]. It is bounded: messages of a flood
//! are shed or refused, and counted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hop::Hop;
use super::schedule::Schedule;
use super::sequence::{SEAL_BYTES, Traffic};
use super::slot_subscriptions::SlotSubscriptions;
use crate::bus::Bus;
use crate::channel::Channel;
use crate::inbox::{Inbox, InboxOptions, WhenFull};
use crate::medium::JoinError;
use crate::router::Carried;
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};

/// The most bytes of a message, and the most entries of a list in it.
const MAX_BYTES: usize = 16 << 10;
const MAX_ENTRIES: usize = 256;
/// Messages that wait to be read. What is shed is repeated in the next slot.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = 1 << 20;

/// A number that is too large for JSON, as hexadecimal digits.
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
pub(super) enum ControlMessage {
    /// Of a sender.
    Beacon(Beacon),
    /// Of a receiver.
    Report(ReceiverReport),
}

/// The lanes of a sender, and the number of waves that it sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Beacon {
    /// Its instance number.
    pub(super) sender: Hex,
    /// The slot in which this is sent.
    pub(super) slot: u64,
    /// The map in force: the lanes in use, the lowest bit for lane 0.
    pub(super) lanes: Hex,
    /// The number of the map.
    pub(super) map: u32,
    /// The next map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<NextMap>,
    /// The number of waves sent: slot, count.
    pub(super) sent: Vec<(u64, u64)>,
}

/// A map that comes into force if all receivers know of it by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NextMap {
    pub(super) map: u32,
    pub(super) lanes: Hex,
    /// The first slot in which it is in force.
    pub(super) from: u64,
}

/// The number of waves that a receiver has heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ReceiverReport {
    /// Its instance number.
    pub(super) receiver: Hex,
    /// The slot in which this is sent.
    pub(super) slot: u64,
    /// One entry for each sender that it knows.
    pub(super) senders: Vec<SenderReport>,
}

/// What a receiver has heard of one sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SenderReport {
    pub(super) sender: Hex,
    /// The number of the latest map that it knows.
    pub(super) map: u32,
    /// The slots that it heard from beginning to end, and the number of waves in them: slot, count.
    pub(super) waves: Vec<(u64, u64)>,
    /// Of the same slots, those in which it heard a beacon.
    pub(super) beacons: Vec<u64>,
}

impl ControlMessage {
    pub(super) fn slot(&self) -> u64 {
        match self {
            Self::Beacon(beacon) => beacon.slot,
            Self::Report(report) => report.slot,
        }
    }

    /// The seal and the sealed bytes; `None` if the slot's key was forgotten.
    pub(super) fn write(&self, hop: &Hop, channel: &Channel) -> Option<Vec<u8>> {
        // Numbers, texts and lists of them can always be written.
        let message = serde_json::to_vec(self).ok()?;
        let seal = hop.sequence_of().seal(channel, self.slot(), &message)?;
        Some([&seal[..], &message].concat())
    }

    /// Reads a message that was sealed with the key for a slot near this time; `None` for all others.
    pub(super) fn read(hop: &Hop, channel: &Channel, payload: &[u8], now: u64) -> Option<Self> {
        if payload.len() > MAX_BYTES {
            return None;
        }
        let (seal, message) = payload.split_at_checked(SEAL_BYTES)?;
        // The seal is checked before anything is parsed, for each slot that the message can be of.
        hop.schedule()
            .heard(now)
            .find(|slot| hop.sequence_of().is_sealed(channel, *slot, message, seal))
            .and_then(|slot| {
                let message: Self = serde_json::from_slice(message).ok()?;
                let is_short = match &message {
                    Self::Beacon(beacon) => beacon.sent.len() <= MAX_ENTRIES,
                    Self::Report(report) => {
                        report.senders.iter().map(|s| 1 + s.waves.len() + s.beacons.len()).sum::<usize>()
                            <= 4 * MAX_ENTRIES
                    }
                };
                (message.slot() == slot && is_short).then_some(message)
            })
    }
}

/// One end of the control messages of one hopping channel.
pub(super) struct ControlChannel {
    hop: Hop,
    channel: Channel,
    subscriptions: SlotSubscriptions,
    /// Messages that were not sealed with the key.
    pub(super) refused: u64,
}

impl ControlChannel {
    pub(super) fn new(bus: &Bus, hop: &Hop, channel: &Channel) -> Result<Self, JoinError> {
        let options = InboxOptions::default()
            .max_waves(MAX_WAITING)
            .max_bytes(MAX_WAITING_BYTES)
            .when_full(WhenFull::Shed);
        // These bounds are allowed.
        let Ok(inbox) = Inbox::new(options) else { return Err(JoinError::Closed) };
        let subscriptions = SlotSubscriptions {
            bus: bus.clone(),
            inbox: Arc::new(inbox),
            sequencer: Arc::new(Sequencer::new(Source::framework())),
            hears_own: false,
            observes: false,
            shown_as: None,
            open: Arc::default(),
        };
        Ok(Self { hop: hop.clone(), channel: channel.clone(), subscriptions, refused: 0 })
    }

    pub(super) fn schedule(&self) -> Schedule {
        self.hop.schedule()
    }

    /// The lane of a slot's control messages. They ignore the map, so they probe all lanes.
    pub(super) fn lane(&self, slot: u64) -> Option<(u8, Channel)> {
        let place = self.hop.sequence_of().place(Traffic::Control, &self.channel, slot)?;
        let lane = place.draw.lane(self.hop.lanes());
        Some((lane, place.on(lane).ok()?))
    }

    /// Subscribes to the lanes of this time and of the near future.
    pub(super) async fn tune(&self, now: u64) -> Result<(), JoinError> {
        let joined = self.hop.schedule().joined(now);
        let wanted: Vec<_> =
            joined.filter_map(|slot| self.lane(slot).map(|(_, channel)| (slot, channel))).collect();
        self.subscriptions.tune(&wanted).await.1
    }

    /// The next message of anybody, not yet checked; `None` when the medium has ended.
    ///
    /// Cancelled before completion, none was taken.
    pub(super) async fn receive(&self) -> Option<Wave> {
        std::future::poll_fn(|cx| self.subscriptions.inbox.poll_receive(cx)).await
    }

    /// Reads a message if it is sealed with the key; counts it as refused if not.
    pub(super) fn read(&mut self, message: &Wave, now: u64) -> Option<ControlMessage> {
        let message = ControlMessage::read(&self.hop, &self.channel, message.payload(), now);
        self.refused += u64::from(message.is_none());
        message
    }

    /// Sends a message in its slot. Never waits: a message that finds no room is repeated in the next slot.
    pub(super) fn send(&self, message: &ControlMessage) {
        let Some((_, channel)) = self.lane(message.slot()) else { return };
        let Some(payload) = message.write(&self.hop, &self.channel) else { return };
        let sequencer = &self.subscriptions.sequencer;
        let wave = Wave::plain(channel, payload.into(), ContentType::Bytes).noticed(sequencer);
        match self.subscriptions.bus.medium().carry(wave) {
            // Dropped, it is offered at once, and the full inbox sheds its weakest wave.
            Ok(Carried::Waiting(waiting)) => drop(waiting),
            Ok(Carried::Done(_)) => {}
            Err(error) => tracing::debug!(%error, "a control message was not sent"),
        }
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
            let message: ControlMessage = serde_json::from_str(documented).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), documented);
        }
    }

    #[test]
    fn a_message_is_read_with_the_key_at_its_time_on_its_channel_and_not_otherwise() {
        let (ours, theirs) = (hop(b"0123456789abcdef"), hop(b"0123456789abcdeF"));
        let (channel, other) = (Channel::new("orders").unwrap(), Channel::new("orders.x").unwrap());
        let message: ControlMessage = serde_json::from_str(BEACON).unwrap();
        let written = message.write(&ours, &channel).unwrap();
        let now = 1_700_000_000 * 1_000_000_000 + 1;
        assert_eq!(ControlMessage::read(&ours, &channel, &written, now), Some(message));
        assert_eq!(ControlMessage::read(&theirs, &channel, &written, now), None);
        assert_eq!(ControlMessage::read(&ours, &other, &written, now), None);
        assert_eq!(ControlMessage::read(&ours, &channel, &written, now + 2_000_000_000), None);
        for place in 0..written.len() {
            let mut forged = written.clone();
            forged[place] ^= 1;
            assert_eq!(ControlMessage::read(&ours, &channel, &forged, now), None, "byte {place}");
        }
        assert_eq!(ControlMessage::read(&ours, &channel, &written[..10], now), None);
        assert_eq!(ControlMessage::read(&ours, &channel, &vec![0; MAX_BYTES + 1], now), None);
    }

    #[test]
    fn a_message_sealed_for_another_slot_than_its_own_is_refused() {
        let (ours, channel) = (hop(b"0123456789abcdef"), Channel::new("orders").unwrap());
        let seal = ours.sequence_of().seal(&channel, 1_700_000_001, BEACON.as_bytes()).unwrap();
        let written = [&seal[..], BEACON.as_bytes()].concat();
        assert_eq!(ControlMessage::read(&ours, &channel, &written, 1_700_000_001 * 1_000_000_000), None);
    }
}
