//! A second look at what nobody can seal: the notice of the server that nobody hears a message (status 503).
//!
//! Whoever hears a question, an inquiry or a notice knows its reply subject, and can send that notice there in the server's
//! place. A process with keys therefore does not believe it. It sends a few frames without waves to the same subject, each with
//! a reply subject of its own, and a marker right behind each. The server handles the messages of one client in order: it says
//! of each frame that nobody hears it before it returns the marker. Others learn of the reply subject only when the server
//! delivers the frame to them, and what they send then arrives after the marker.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::Subject;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::poll_fn;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::NatsShared;
use super::doubts::Doubt;
use super::root::Root;
use aether_core::medium::Router;
use aether_core::{Channel, Wave, clock};
use aether_link::wire::{Position, encode_at};

/// How many frames have to be unheard. A message of others comes before a marker only if the marker is kept back for a round
/// trip behind its frame: the client happens to write between the two and is then interrupted, or the network parts them.
/// Handed over together, hardly more than one or two of them can be parted from their markers.
const FRAMES: usize = 12;

/// The bound of a look: a round trip, behind what the client already has to send. It passes only if the server is stuck or the
/// client cannot send.
const LOOKED_WITHIN: Duration = Duration::from_secs(5);

/// How many looks at waves are under way at once. Their 24 messages each are a fraction of what the client queues.
const LOOKS: usize = 16;

/// Questions are not numbered.
const NO_POSITION: Position = Position { stream: 0, first: 0, age_micros: 0 };

impl NatsShared {
    /// Whether nobody hears the questions on a channel. `None` if that cannot be known: the connection is down, broke or has
    /// ended, or the look took too long.
    ///
    /// Cancel safety: cancelled, it sends nothing more.
    pub(super) async fn is_unheard(&self, channel: &Channel) -> Option<bool> {
        if !self.link.is_connected() {
            return None;
        }
        timeout(LOOKED_WITHIN, self.look(channel)).await.ok()?
    }

    async fn look(&self, channel: &Channel) -> Option<bool> {
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

/// What becomes of waves of which the server, or somebody else, says that nobody hears them: they come back, in a process with
/// keys after a second look.
pub(super) fn unheard_waves(
    shared: &Arc<NatsShared>,
    router: Arc<Router>,
) -> impl Fn(Vec<Wave>) + Send + 'static {
    // The task that calls it ends with the connection, which it must not keep.
    let shared = Arc::downgrade(shared);
    move |waves| {
        let Some(shared) = shared.upgrade() else { return };
        match &shared.doubts {
            Some(doubts) => {
                if let Err(waves) = doubts.add(waves) {
                    count(&router, &waves);
                }
            }
            None => waves.iter().for_each(|wave| router.reflect_unheard(wave)),
        }
    }
}

/// Looks at waves, at some of them at the same time, and reflects in the order of the notices those that nobody hears. Where a
/// look has no result, the waves may have been received: they do not come back, and are counted. Ends with the connection,
/// which it keeps during a look only.
pub(super) async fn decide(
    shared: Weak<NatsShared>,
    router: Arc<Router>,
    mut doubts: mpsc::UnboundedReceiver<Doubt>,
) {
    let looks = poll_fn(|cx| doubts.poll_recv(cx)).map(|doubt| {
        let shared = shared.clone();
        async move {
            let is_unheard = match (&doubt, shared.upgrade()) {
                (Doubt::Waves { waves, .. }, Some(shared)) => match waves.first() {
                    Some(first) => shared.is_unheard(first.channel()).await,
                    None => None,
                },
                _ => None,
            };
            (doubt, is_unheard)
        }
    });
    let mut looks = pin!(looks.buffered(LOOKS));
    while let Some((doubt, is_unheard)) = looks.next().await {
        // Their places are free when the match has ended.
        match (doubt, is_unheard) {
            (Doubt::Waves { waves, .. }, Some(true)) => {
                waves.iter().for_each(|wave| router.reflect_unheard(wave));
            }
            (Doubt::Waves { waves, .. }, None) => count(&router, &waves),
            (Doubt::Waves { .. }, Some(false)) => {}
            (Doubt::Fence { passed, .. }, _) => {
                let _ = passed.send(());
            }
        }
        // Who waits for the decisions sees that there is progress.
        if let Some(shared) = shared.upgrade() {
            shared.link.moved();
        }
    }
}

fn count(router: &Router, waves: &[Wave]) {
    waves.iter().for_each(|wave| router.count_unverified(wave));
}
