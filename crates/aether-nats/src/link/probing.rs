//! Probes: frames that ask whether anybody hears them, each with a marker right behind it.

use async_nats::{Client, Subject};
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;

use super::Link;

impl Link {
    /// Sends probes, each with a marker right behind it. `None` once the connection has ended.
    ///
    /// The client is given all of them in one go, so that it writes a probe and its marker together: only if its task runs
    /// already, and takes what there is just between the two, does it write them apart, which cannot happen to all of them.
    ///
    /// Cancel safety: cancelled, it sends no more of them.
    pub(in super::super) async fn probe(
        &self,
        client: &Client,
        subject: &Subject,
        frames: Vec<Bytes>,
    ) -> Option<Vec<oneshot::Receiver<bool>>> {
        let (inbox, markers) =
            self.marks.lock().as_ref().map(|marks| (marks.inbox.clone(), marks.subject.clone()))?;
        self.flight.lock().drop_abandoned_probes();
        let (mut messages, mut probes) = (Vec::new(), Vec::new());
        for frame in frames {
            let (number, is_unheard) = self.flight.lock().probe()?;
            let reply = format!("{inbox}.{}", self.probe_tokens.write(number));
            messages.push((reply, frame, Bytes::from(self.tokens.write(number))));
            probes.push(is_unheard);
        }
        let (client, subject) = (client.clone(), subject.clone());
        // A task of the runtime does not let the task of the client run before it is done; another thread would wake it with
        // each message.
        let mut sending = JoinSet::new();
        sending.spawn(unconstrained(async move {
            for (reply, frame, marker) in messages {
                client.publish_with_reply(subject.clone(), reply, frame).await.ok()?;
                client.publish(markers.clone(), marker).await.ok()?;
            }
            Some(())
        }));
        // Fails only when the runtime ends.
        sending.join_next().await?.ok()??;
        Some(probes)
    }

    /// Whether the notice that nobody hears a probe came before the marker. `None` if the connection broke.
    pub(in super::super) async fn probed(
        &self,
        client: &Client,
        probe: oneshot::Receiver<bool>,
    ) -> Option<bool> {
        self.watching(client, probe).await.ok()
    }
}
