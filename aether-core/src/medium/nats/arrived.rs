//! A message that the client has taken from the server and that this process may look at.

use async_nats::{Message, Subject};

use crate::proof::Proof;

/// A message whose payload is no longer sealed.
pub(super) struct Arrived {
    pub(super) message: Message,
    /// Where the asker of a sealed question waits, by its own words. The answer is sealed for this subject, whatever the
    /// broker made of it. `None` if the message is no question, or was not sealed.
    pub(super) asked_from: Option<Subject>,
    /// Who signed it, if this process has a list of signers.
    pub(super) proof: Option<Proof>,
}

impl Arrived {
    /// A message that was not sealed, in a process that seals nothing.
    pub(super) const fn plain(message: Message) -> Self {
        Self { message, asked_from: None, proof: None }
    }
}
