//! What replicas send each other, as `postcard` bytes on three channels below `field.{name}`.

use aether_core::Channel;
use aether_core::wave::ChannelError;
use serde::{Deserialize, Serialize};

use crate::core::{Change, Digest, Message, WriterId};

/// The version of everything here. Other versions are counted and skipped.
pub(super) const VERSION: u8 = 2;

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

/// Messages of a reconciliation; without any it asks only for the digest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) version: u8,
    pub(super) from: WriterId,
    /// Tells the reconciliations of one initiator apart.
    pub(super) session: u32,
    pub(super) messages: Vec<Message>,
}

/// The answer to a [`Question`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What the replica has after it.
    pub(super) digest: Digest,
    pub(super) messages: Vec<Message>,
}

/// The channels of one field.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    pub(super) changes: Channel,
    pub(super) beats: Channel,
    sync: String,
}

impl Channels {
    pub(super) fn of(field: &str) -> Result<Self, ChannelError> {
        Ok(Self {
            changes: Channel::new(format!("field.{field}.changes"))?,
            beats: Channel::new(format!("field.{field}.beats"))?,
            sync: format!("field.{field}.sync"),
        })
    }

    /// The channel on which one replica answers.
    pub(super) fn sync(&self, writer: WriterId) -> Result<Channel, ChannelError> {
        Channel::new(format!("{}.{writer}", self.sync))
    }
}
