//! Hearing and saying what senders and receivers tell each other on one hopping channel.
//!
//! Both ends of an adaptive channel hold one. It is bounded: who floods the names of the moment has their messages shed
//! or refused, and counted.

use std::sync::Arc;

use super::ears::Ears;
use super::hop::Hop;
use super::said::Said;
use super::schedule::Schedule;
use super::sequence::Stream;
use crate::aether::Aether;
use crate::channel::Channel;
use crate::inbox::{Inbox, InboxOptions, WhenFull};
use crate::medium::JoinError;
use crate::router::Carried;
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};

/// Messages that wait to be read. What is shed is said again in the next slot.
const MESSAGES: usize = 256;
const MESSAGE_BYTES: usize = 1 << 20;

pub(super) struct Reports {
    hop: Hop,
    channel: Channel,
    ears: Ears,
    /// Messages that were not sealed with the key.
    pub(super) refused: u64,
}

impl Reports {
    pub(super) fn new(aether: &Aether, hop: &Hop, channel: &Channel) -> Result<Self, JoinError> {
        let options =
            InboxOptions::default().max_waves(MESSAGES).max_bytes(MESSAGE_BYTES).when_full(WhenFull::Shed);
        // These bounds are allowed.
        let Ok(inbox) = Inbox::new(options) else { return Err(JoinError::Closed) };
        let ears = Ears {
            aether: aether.clone(),
            inbox: Arc::new(inbox),
            sequencer: Arc::new(Sequencer::new(Source::framework())),
            hears_own: false,
            observes: false,
            shown_as: None,
            open: Arc::default(),
        };
        Ok(Self { hop: hop.clone(), channel: channel.clone(), ears, refused: 0 })
    }

    pub(super) fn schedule(&self) -> Schedule {
        self.hop.schedule()
    }

    /// The lane on which a slot's reports are: the map changes nothing of it, so they probe all lanes.
    pub(super) fn lane(&self, slot: u64) -> Option<(u8, Channel)> {
        let place = self.hop.sequence_of().place(Stream::Reports, &self.channel, slot)?;
        let lane = place.draw.lane(self.hop.lanes());
        Some((lane, place.on(lane).ok()?))
    }

    /// Hears what is said at this time, and what will be soon.
    pub(super) async fn tune(&self, now: u64) -> Result<(), JoinError> {
        let joined = self.hop.schedule().joined(now);
        let wanted: Vec<_> =
            joined.filter_map(|slot| self.lane(slot).map(|(_, channel)| (slot, channel))).collect();
        self.ears.tune(&wanted).await.1
    }

    /// The next message, whoever it is of; `None` when the medium has ended.
    ///
    /// Cancelled before completion, none was taken.
    pub(super) async fn receive(&self) -> Option<Wave> {
        std::future::poll_fn(|cx| self.ears.inbox.poll_receive(cx)).await
    }

    /// What a message says, if it is of somebody who has the key.
    pub(super) fn read(&mut self, message: &Wave, now: u64) -> Option<Said> {
        let said = Said::read(&self.hop, &self.channel, message.payload(), now);
        self.refused += u64::from(said.is_none());
        said
    }

    /// Says something in the slot it belongs to. Never waits: what finds no room is said again in the next slot.
    pub(super) fn say(&self, said: &Said) {
        let Some((_, channel)) = self.lane(said.slot()) else { return };
        let Some(payload) = said.write(&self.hop, &self.channel) else { return };
        let wave = Wave::plain(channel, payload.into(), ContentType::Bytes).noticed(&self.ears.sequencer);
        match self.ears.aether.medium().carry(wave) {
            // Dropped, it is offered at once, and the full inbox sheds its weakest.
            Ok(Carried::Waiting(waiting)) => drop(waiting),
            Ok(Carried::Done(_)) => {}
            Err(error) => tracing::debug!(%error, "a report was not taken"),
        }
    }
}
