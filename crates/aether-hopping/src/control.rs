//! Control messages between the senders and receivers of an adaptive channel.
//!
//! Their subjects hop as well. The messages are sealed with the key, so they cannot be forged without it.
//! `docs/protocol/README.md` describes their format. Both ends hold a [`ControlChannel`]. Its queue is bounded: a flood of
//! messages is shed or refused, and counted.

use std::sync::Arc;

use aether_core::bus::Bus;
use aether_core::inbox::Inbox;
use aether_core::medium::{Carried, Listener, Sequencer};
use aether_core::{Channel, InboxOptions, JoinError, Source, Wave, WhenFull};
use serde::{Deserialize, Serialize};

use crate::hop::Hop;
use crate::schedule::Schedule;
use crate::sequence::{SEAL_BYTES, Traffic};
use crate::slot_subscriptions::SlotSubscriptions;

/// The maximum size of a message in bytes, and the maximum number of entries in one of its lists.
const MAX_BYTES: usize = 16 << 10;
const MAX_ENTRIES: usize = 256;
/// Bounds of the queue of unread messages. A shed message is superseded by the message of the next slot.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = 1 << 20;

/// A number written in hexadecimal digits, because it may exceed the integers of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Hex(pub(crate) u64);

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
pub(crate) enum ControlMessage {
    /// Sent by senders.
    Beacon(Beacon),
    /// Sent by receivers.
    Report(ReceiverReport),
}

/// The lanes of a sender, and its number of waves in recent slots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beacon {
    /// The instance number of the sender.
    pub(crate) sender: Hex,
    /// The slot in which this message is sent.
    pub(crate) slot: u64,
    /// The lanes in use as a bit set. The lowest bit is lane 0.
    pub(crate) lanes: Hex,
    /// The number of the map in force.
    pub(crate) map: u32,
    /// The announced next map, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<NextMap>,
    /// The number of waves sent in recent slots, as (slot, count).
    pub(crate) sent: Vec<(u64, u64)>,
}

/// A map that takes effect at its slot if all receivers have confirmed it by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NextMap {
    pub(crate) map: u32,
    pub(crate) lanes: Hex,
    /// The first slot in which it applies.
    pub(crate) from: u64,
}

/// The number of waves that a receiver received from each sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReceiverReport {
    /// The instance number of the receiver.
    pub(crate) receiver: Hex,
    /// The slot in which this message is sent.
    pub(crate) slot: u64,
    /// One entry per known sender.
    pub(crate) senders: Vec<SenderReport>,
}

/// The waves and beacons that a receiver received from one sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SenderReport {
    pub(crate) sender: Hex,
    /// The number of the latest map known to the receiver.
    pub(crate) map: u32,
    /// The number of waves in each slot that was heard completely, as (slot, count).
    pub(crate) waves: Vec<(u64, u64)>,
    /// The same slots, as far as a beacon arrived in them.
    pub(crate) beacons: Vec<u64>,
}

impl ControlMessage {
    pub(crate) fn slot(&self) -> u64 {
        match self {
            Self::Beacon(beacon) => beacon.slot,
            Self::Report(report) => report.slot,
        }
    }

    /// Writes the seal and the sealed bytes. Returns `None` if the key of the slot was deleted.
    pub(crate) fn write(&self, hop: &Hop, channel: &Channel) -> Option<Vec<u8>> {
        // Cannot fail: the message consists of numbers, strings and lists.
        let message = serde_json::to_vec(self).ok()?;
        let seal = hop.sequence_of().seal(channel, self.slot(), &message)?;
        Some([&seal[..], &message].concat())
    }

    /// Reads a message. Returns `None` unless it was sealed with the key for a slot near this time.
    pub(crate) fn read(hop: &Hop, channel: &Channel, payload: &[u8], now: u64) -> Option<Self> {
        if payload.len() > MAX_BYTES {
            return None;
        }
        let (seal, message) = payload.split_at_checked(SEAL_BYTES)?;
        // The seal is checked before anything is parsed, for each slot that the message may belong to.
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

/// One end of the control traffic of a hopping channel.
pub(crate) struct ControlChannel {
    hop: Hop,
    channel: Channel,
    subscriptions: SlotSubscriptions,
    /// The number of messages that were not sealed with the key.
    pub(crate) refused: u64,
}

impl ControlChannel {
    pub(crate) fn new(bus: &Bus, hop: &Hop, channel: &Channel) -> Result<Self, JoinError> {
        let options = InboxOptions::default()
            .max_waves(MAX_WAITING)
            .max_bytes(MAX_WAITING_BYTES)
            .when_full(WhenFull::Shed);
        // Cannot fail: the bounds are valid.
        let Ok(inbox) = Inbox::new(options) else { return Err(JoinError::Closed) };
        let subscriptions = SlotSubscriptions {
            bus: bus.clone(),
            inbox: Arc::new(inbox),
            listener: Listener {
                sequencer: Arc::new(Sequencer::new(Source::framework())),
                hears_own: false,
                observes: false,
                relabel: None,
            },
            shown_as: None,
            open: Arc::default(),
        };
        Ok(Self { hop: hop.clone(), channel: channel.clone(), subscriptions, refused: 0 })
    }

    pub(crate) fn schedule(&self) -> Schedule {
        self.hop.schedule()
    }

    /// The lane of control messages in a slot. They ignore the map, and so probe all lanes.
    pub(crate) fn lane(&self, slot: u64) -> Option<(u8, Channel)> {
        let place = self.hop.sequence_of().place(Traffic::Control, &self.channel, slot)?;
        let lane = place.draw.lane(self.hop.lanes());
        Some((lane, place.on(lane).ok()?))
    }

    /// Subscribes to the lanes of the present and the near future.
    pub(crate) async fn tune(&self, now: u64) -> Result<(), JoinError> {
        let joined = self.hop.schedule().joined(now);
        let wanted: Vec<_> =
            joined.filter_map(|slot| self.lane(slot).map(|(_, channel)| (slot, channel))).collect();
        self.subscriptions.tune(&wanted).await.1
    }

    /// Receives the next message, not yet checked. Returns `None` once the medium is closed.
    ///
    /// If cancelled before completion, no message was taken.
    pub(crate) async fn receive(&self) -> Option<Wave> {
        std::future::poll_fn(|cx| self.subscriptions.inbox.poll_receive(cx)).await
    }

    /// Reads a message that is sealed with the key. Counts any other as refused.
    pub(crate) fn read(&mut self, message: &Wave, now: u64) -> Option<ControlMessage> {
        let message = ControlMessage::read(&self.hop, &self.channel, message.payload(), now);
        self.refused += u64::from(message.is_none());
        message
    }

    /// Sends a message in its slot. Never waits: a full queue sheds the message, and the message of the next slot repeats
    /// its content.
    pub(crate) fn send(&self, message: &ControlMessage) {
        let Some((_, channel)) = self.lane(message.slot()) else { return };
        let Some(payload) = message.write(&self.hop, &self.channel) else { return };
        // Cannot fail: the channel is valid.
        let Ok(wave) = Wave::from_bytes(channel, payload) else { return };
        match self.subscriptions.bus.medium().carry(wave.noticed(&self.subscriptions.listener.sequencer)) {
            // Dropping it offers the message at once, and the full inbox sheds its weakest wave.
            Ok(Carried::Waiting(waiting)) => drop(waiting),
            Ok(Carried::Done(_)) => {}
            Err(error) => tracing::debug!(%error, "cannot send a control message"),
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
    fn messages_match_the_protocol_description() {
        for documented in [BEACON, REPORT] {
            assert!(include_str!("../../../docs/protocol/README.md").contains(documented));
            let message: ControlMessage = serde_json::from_str(documented).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), documented);
        }
    }

    #[test]
    fn a_message_is_read_only_with_its_key_on_its_channel_at_its_time() {
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
    fn a_message_sealed_for_another_slot_is_refused() {
        let (ours, channel) = (hop(b"0123456789abcdef"), Channel::new("orders").unwrap());
        let seal = ours.sequence_of().seal(&channel, 1_700_000_001, BEACON.as_bytes()).unwrap();
        let written = [&seal[..], BEACON.as_bytes()].concat();
        assert_eq!(ControlMessage::read(&ours, &channel, &written, 1_700_000_001 * 1_000_000_000), None);
    }
}
