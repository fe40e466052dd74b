//! A message that the client has taken from the server and that this process may look at.

use async_nats::{Message, Subject};

use aether_core::Wave;
use aether_core::medium::{NodeId, Proof};
use aether_link::wire::FrameError;

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

/// A node, told apart by its signer if that is proven: so that nobody forges the stream, the times or the pauses of another.
pub(super) fn known_node(proof: Option<&Proof>, node: u64) -> NodeId {
    proof.map_or(node.into(), |proof| proof.own(node))
}

/// Holds the sources of the waves of a frame against who signed it. The asker sends the copies for observers, also that of the
/// answer, whose source stays unproven.
pub(super) fn prove(waves: &mut [Wave], proof: Option<&Proof>, is_copy: bool) -> Result<(), FrameError> {
    let Some(proof) = proof else { return Ok(()) };
    for wave in waves {
        if is_copy {
            wave.prove_if_own(proof);
        } else if !wave.prove(proof) {
            return Err(FrameError::Misnamed { name: wave.source().name().to_owned() });
        }
    }
    Ok(())
}
