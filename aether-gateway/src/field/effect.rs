//! The effects of a client's message, in both protocols. The machines of the protocols return effects, and the
//! connection carries them out.

use std::time::Duration;

use aether_field::Names;
use aether_field::core::{Change, Operation, Seen, Stamp, WriterId};
use bytes::Bytes;

use super::counts::Refused;
use super::selection::Selection;
use crate::access::Rights;

/// Something that the connection has to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// The client is admitted with these rights, or has others from now on. A writer is notified of its writes that lose.
    Admit { writer: Option<WriterId>, rights: Rights, token: Option<String> },
    /// Sends a message.
    Reply(String),
    /// From now on the client gets the changes of these names, after a snapshot or what it has missed.
    Subscribe(Subscription),
    /// The operations that follow have to wait.
    Wait(Duration),
    /// Writes to the field.
    Write(Write),
    /// Passes on an entry that its owner has signed.
    Submit(OwnedWrite),
    /// Announces the client as a participant, or takes it back. A client that is several gives each a name.
    Announce(Option<String>, Option<Announcement>),
    /// Takes back all participants that the client is.
    Leave,
    /// Counts something that was refused.
    Count(Refused),
    /// Closes the connection after everything before.
    Close(Close),
}

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

impl Close {
    pub(super) const GOING_AWAY: Self = Self { code: 1001, reason: "the gateway stops" };
    pub(super) const NOT_TEXT: Self = Self { code: 1003, reason: "messages are text" };
    pub(super) const AUTH_FAILED: Self = Self { code: 1008, reason: "auth failed" };
    pub(super) const RIGHTS_CHANGED: Self =
        Self { code: 1008, reason: "the rights of the token have changed" };
    pub(super) const NO_HELLO: Self = Self { code: 1008, reason: "no hello" };
    pub(super) const STALLED: Self = Self { code: 1008, reason: "the client does not read" };
    pub(super) const TOO_BIG: Self = Self { code: 1009, reason: "frame too big" };
    pub(super) const BUSY: Self = Self { code: 1013, reason: "server busy" };
    pub(super) const NOT_ON_DISK: Self = Self { code: 1013, reason: "changes cannot be stored" };
    pub(super) const NOT_KNOWN: Self = Self { code: 4401, reason: "the token is not known, or no longer" };
    pub(super) const NO_RIGHT: Self = Self { code: 4403, reason: "the token gives no right in this field" };
}

/// The announcement of a client as a participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    /// Others see it who may read any of these names.
    pub(super) about: Vec<Names>,
    /// Its JSON.
    pub(super) value: String,
}

/// The subscription of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) selection: Selection,
    pub(super) since: Since,
    /// `None` as before.
    pub(super) presence: Option<bool>,
}

/// The part of a subscription that a client has already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing.
    Start,
    /// Everything up to this epoch and revision.
    Cursor(String, u64),
    /// Everything that belonged to its subscription before.
    Before,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Write {
    pub(super) operation: Operation,
    /// `None` for a write without an identity, which is made when it arrives.
    pub(super) about: Option<About>,
}

/// The identity and the time of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct About {
    /// The number that the client gave.
    pub(super) op: u64,
    /// The same for the same write, however often and wherever it arrives.
    pub(super) stamp: Stamp,
    pub(super) seen: Seen,
    /// The client wants to know when it is on the disk.
    pub(super) durable: bool,
}

/// An entry that its owner has signed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OwnedWrite {
    pub(super) op: u64,
    pub(super) change: Change,
    pub(super) durable: bool,
}

/// The outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The field has it, now or since an earlier time.
    Applied { version: Stamp },
    /// There was nothing to remove.
    Unchanged,
    /// A later write of the register wins, or an addition of the member that the removal had not seen.
    Lost { version: Stamp, value: Option<Bytes>, winner: Option<Stamp> },
    /// It cannot be made.
    Refused { code: &'static str, message: String },
}
