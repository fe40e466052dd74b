//! The messages between replicas, as `postcard` bytes on channels below `field.{name}`.

use aether_core::Channel;
use aether_core::wave::ChannelError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::core::{Change, Digest, Identity, Message, Presence, State, WriterId};

/// The version of everything here. Other versions are counted and skipped.
pub(super) const VERSION: u8 = 4;

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
    /// Microseconds since 1970 by the clock of the writer; increases with each of its beats.
    pub(super) number: u64,
    /// Microseconds since 1970 by the clock of the writer as it is now. Nobody signs it: it is only shown.
    pub(super) clock: u64,
    /// The microseconds of its newest stamp. Nobody signs it either.
    pub(super) newest: u64,
    /// The signer; `None` from a replica without an identity.
    pub(super) proof: Option<Proof>,
}

/// The signature of an owner under a beat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Proof {
    pub(super) owner: SmolStr,
    signature: Bytes,
}

impl Beat {
    fn presence(&self) -> Presence<'_> {
        let Self { writer, number, digest, asks, leaves, .. } = *self;
        Presence { writer, replica: &self.replica, number, digest, asks, leaves }
    }

    pub(super) fn sign(&mut self, identity: &Identity, field: &str) {
        let signature = self.presence().sign(identity, field);
        let signature = Bytes::copy_from_slice(&signature);
        self.proof = Some(Proof { owner: identity.name().into(), signature });
    }

    /// The owner that has signed the beat; `None` if nobody has, the owner is not trusted here, or the beat is older or
    /// newer than the bound for stamps allows: then it may be recorded.
    pub(super) fn owner(&self, state: &State, wall: u64) -> Option<&SmolStr> {
        let Proof { owner, signature } = self.proof.as_ref()?;
        if u128::from(self.number.abs_diff(wall)) > state.limits().max_drift.as_micros() {
            return None;
        }
        let signature: &[u8; 64] = signature.as_ref().try_into().ok()?;
        state.is_present(owner, &self.presence(), signature).then_some(owner)
    }
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
    /// The state of the replica after it.
    pub(super) digest: Digest,
    pub(super) messages: Vec<Message>,
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
    /// The patterns of the names that it is about.
    pub(super) about: Vec<SmolStr>,
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
