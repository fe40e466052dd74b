//! Seals what leaves for a peer, and opens what arrives, if the network has a secret.
//!
//! What is sealed is bound to its receiver and its lane: it opens nowhere else. Within a lane messages arrive in order, so
//! each lane has a replay guard of its own.

use bytes::Bytes;

use super::lane::Lane;
use super::message::Message;
use aether_seal::{Refusals, ReplayGuard, Role, SealError, SealKeys, Sealer, overhead};

/// Seals and opens, or passes everything on.
#[derive(Debug)]
pub(super) struct Sealing(Option<Sealer>);

/// Received messages, by lane. Owned by the task that receives.
#[derive(Debug)]
pub(super) struct LaneGuards(Vec<ReplayGuard>);

/// The address of a lane of a node.
fn address(node: u64, lane: Lane) -> String {
    format!("{node:016x}.{}", lane.number())
}

impl Sealing {
    pub(super) fn new(keys: Option<SealKeys>) -> Result<Self, SealError> {
        Ok(Self(keys.map(Sealer::new).transpose()?))
    }

    /// How many bytes sealing adds.
    pub(super) fn overhead(&self) -> usize {
        if self.0.is_some() { overhead(0) } else { 0 }
    }

    pub(super) fn guards(&self) -> LaneGuards {
        LaneGuards(self.0.iter().flat_map(|sealer| (0..Lane::COUNT).map(|_| sealer.guard())).collect())
    }

    /// The bytes that go to a node. `None` if they cannot be sealed; the log has the reason.
    pub(super) fn seal(&self, to: u64, lane: Lane, from: u64, message: &Message) -> Option<Vec<u8>> {
        let inner = message.write(from);
        let mut out = Vec::with_capacity(1 + inner.len() + self.overhead());
        out.push(lane.number());
        match &self.0 {
            None => out.extend_from_slice(&inner),
            Some(sealer) => {
                let sealed = sealer.seal(Role::Control, &address(to, lane), "", &inner);
                let sealed = sealed.inspect_err(
                    |error| tracing::error!(%error, "a message cannot be sealed and is not sent"),
                );
                out.extend_from_slice(&sealed.ok()?);
            }
        }
        Some(out)
    }

    /// The inside of what arrived for a node in a lane. `None` if it is refused, which is counted.
    pub(super) fn open(&self, node: u64, lane: Lane, bytes: Bytes, guards: &mut LaneGuards) -> Option<Bytes> {
        let Some(sealer) = &self.0 else { return Some(bytes) };
        let guard = guards.0.get_mut(lane.index())?;
        sealer
            .open(Role::Control, &address(node, lane), &bytes, guard)
            .map(|opened| opened.frame)
            .inspect_err(|refusal| tracing::debug!(%refusal, "refused a message of the network"))
            .ok()
    }

    /// The refusals. `None` if nothing is sealed.
    pub(super) fn refusals(&self) -> Option<Refusals> {
        self.0.as_ref().map(Sealer::refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_opens_once_at_its_receiver_and_in_its_lane_only() {
        let keys = SealKeys::generate().unwrap();
        let (here, there) = (Sealing::new(Some(keys.clone())).unwrap(), Sealing::new(Some(keys)).unwrap());
        let mut guards = there.guards();
        let bytes = Bytes::from(here.seal(2, Lane::LAST, 1, &Message::Missing).unwrap());
        assert_eq!(bytes[0], Lane::LAST.number());
        let bytes = bytes.slice(1..);
        assert!(there.open(3, Lane::LAST, bytes.clone(), &mut guards).is_none(), "another receiver");
        assert!(there.open(2, Lane::CONTROL, bytes.clone(), &mut guards).is_none(), "another lane");
        let inner = there.open(2, Lane::LAST, bytes.clone(), &mut guards).unwrap();
        assert_eq!(Message::read(inner), Ok((1, Message::Missing)));
        assert!(there.open(2, Lane::LAST, bytes.clone(), &mut guards).is_none(), "a second time");
        let stranger = Sealing::new(Some(SealKeys::generate().unwrap())).unwrap();
        assert!(stranger.open(2, Lane::LAST, bytes, &mut stranger.guards()).is_none(), "another secret");
        let plain = Sealing::new(None).unwrap().seal(2, Lane::LAST, 1, &Message::Missing).unwrap();
        let plain = Bytes::from(plain).slice(1..);
        assert!(there.open(2, Lane::LAST, plain, &mut guards).is_none(), "not sealed");
        let refused = there.refusals().unwrap();
        assert_eq!((refused.tampered, refused.replayed, refused.plain), (2, 1, 1));
    }
}
