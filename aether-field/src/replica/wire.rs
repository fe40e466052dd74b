//! What replicas send each other, as `postcard` bytes on channels below `field.{name}`.

use aether_core::Channel;
use aether_core::wave::ChannelError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::core::{Change, Digest, Message, WriterId};

/// The version of everything here. Other versions are counted and skipped.
pub(super) const VERSION: u8 = 1;

/// Changes as they are made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Changes {
    pub(super) version: u8,
    pub(super) changes: Vec<Change>,
}

/// The state of one replica in brief, sent periodically, after changes, and on request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Beat {
    pub(super) version: u8,
    pub(super) writer: WriterId,
    pub(super) replica: String,
    pub(super) digest: Digest,
    /// The other replicas answer with theirs at once.
    pub(super) asks: bool,
    /// The replica leaves.
    pub(super) leaves: bool,
}

/// A question in a reconciliation. The answer is a list of messages.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) version: u8,
    pub(super) from: WriterId,
    /// Tells the reconciliations of one initiator apart.
    pub(super) session: u32,
    pub(super) message: Message,
}

/// Participants that one replica has announced.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Participants {
    pub(super) version: u8,
    pub(super) writer: WriterId,
    pub(super) participants: Vec<Participant>,
}

/// One participant.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Participant {
    pub(super) id: SmolStr,
    /// The time since its last sign of life.
    pub(super) age_ms: u32,
    /// Its JSON; `None` if it has left.
    pub(super) value: Option<Bytes>,
}

/// The channels of one field.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    pub(super) changes: Channel,
    pub(super) beats: Channel,
    pub(super) presence: Channel,
    sync: String,
}

impl Channels {
    pub(super) fn of(field: &str) -> Result<Self, ChannelError> {
        Ok(Self {
            changes: Channel::new(format!("field.{field}.changes"))?,
            beats: Channel::new(format!("field.{field}.beats"))?,
            presence: Channel::new(format!("field.{field}.presence"))?,
            sync: format!("field.{field}.sync"),
        })
    }

    /// The channel on which one replica answers.
    pub(super) fn sync(&self, writer: WriterId) -> Result<Channel, ChannelError> {
        Channel::new(format!("{}.{writer}", self.sync))
    }
}
