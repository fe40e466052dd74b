//! A second look at what nobody can seal: the notice of the server that nobody hears a message (status 503).
//!
//! Whoever hears a question, an inquiry or a notice knows its reply subject, and can send that notice there in the server's
//! place. A process with keys therefore does not believe it. It sends a few frames without waves to the same subject, each with
//! a reply subject of its own, and a marker right behind each. The server handles the messages of one client in order: it says
//! of each frame that nobody hears it before it returns the marker. Others learn of the reply subject only when the server
//! delivers the frame to them, and what they send then arrives after the marker.

use async_nats::Subject;
use futures_util::future::join_all;

use super::connection::NatsShared;
use super::root::Root;
use crate::channel::Channel;
use crate::clock;
use crate::wire::{Position, encode_at};

/// How many frames have to be unheard. A message of others comes before a marker only if the marker is kept back for a round
/// trip behind its frame: the client happens to write between the two and is then interrupted, or the network parts them.
/// Handed over together, hardly more than one or two of them can be parted from their markers.
const FRAMES: usize = 12;

/// Questions are not numbered.
const NO_POSITION: Position = Position { stream: 0, first: 0, age_micros: 0 };

impl NatsShared {
    /// Whether nobody hears the questions on a channel. `None` if the connection broke.
    pub(super) async fn is_unheard(&self, channel: &Channel) -> Option<bool> {
        let subject = Subject::from(self.subject(Root::Questions, channel.as_str()));
        let frame = encode_at(self.sender(), Some(NO_POSITION), None, &[], clock::now()).ok()?;
        let seal = |_| self.sealed(Root::Questions, channel.as_str(), &subject, frame.clone());
        let frames: Option<Vec<_>> = (0..FRAMES).map(seal).collect();
        let probes = self.link.probe(&self.client, &subject, frames?).await?;
        let answers = join_all(probes.into_iter().map(|probe| self.link.probed(&self.client, probe))).await;
        let is_unheard = answers.into_iter().try_fold(true, |all, unheard| Some(all && unheard?))?;
        if !is_unheard {
            self.link.refuse();
            tracing::debug!(%channel, "ignored a notice that nobody hears, which is not from the server");
        }
        Some(is_unheard)
    }
}
