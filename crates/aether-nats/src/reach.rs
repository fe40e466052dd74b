//! Whether anybody receives a message: notices of the framework, inquiries, and the verification of no-responders replies.
//!
//! Notices bypass the outbox. They are sent to the subjects of questions, so that observers do not count as
//! receivers. Each notice has its own reply subject, to which the server reports that there are no responders (status
//! 503). Nothing else replies there. The server processes one client's messages in order. Once a marker sent after
//! the notices has returned, all such reports have arrived.
//!
//! Nobody can seal such a report. A client that hears a question, an inquiry or a notice knows its reply subject, and
//! can send a report there in the server's place. A process with keys therefore verifies it by probes: a few frames
//! without waves to the same subject, each with a reply subject of its own, and a marker right behind each. The
//! server handles the messages of one client in order: it reports of each frame that nobody hears it before it
//! returns the marker. Others learn of the reply subject only when the server delivers the frame to them, and what
//! they send then arrives after the marker.
//!
//! On a server without the permissions of `aether acl nats`, the verification keeps clients without a key from ending
//! questions and from reflecting commands (tests `a_forged_notice_that_nobody_listens_ends_no_question` and
//! `a_forged_notice_brings_no_command_back`); nothing else does.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::{Client, Subject, Subscriber};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::poll_fn;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

use super::authentication::Tokens;
use super::connection::NatsShared;
use super::no_responders::{UnverifiedEntry, unheard};
use super::state::ConnectionState;
use super::subjects::Root;
use aether_core::medium::{Reach, Router};
use aether_core::{Channel, Wave, clock};
use aether_link::Acceptance;
use aether_link::wire::{Position, encode_at};

/// The number of probes that have to be unheard. A message of others comes before a marker only if the marker is kept
/// back for a round trip behind its frame: the client happens to write between the two and is then interrupted, or
/// the network parts them. Handed over together, hardly more than one or two of them can be parted from their
/// markers.
const PROBES: usize = 12;

/// The bound of a verification: a round trip, behind what the client already has to send. It passes only if the
/// server is stuck or the client cannot send.
const VERIFIED_WITHIN: Duration = Duration::from_secs(5);

/// The maximum number of verifications of waves at the same time. Their 24 messages each are a fraction of what the
/// client queues.
const MOST_VERIFICATIONS: usize = 16;

/// Questions are not numbered.
const NO_POSITION: Position = Position { stream: 0, first: 0, age_micros: 0 };

/// Sends notices and receives the server's no-responders reports.
pub(super) struct Notices {
    subject: String,
    tokens: Tokens,
    /// The subscription is made with the first notice. Each call holds the lock, so that calls run one at a time.
    reports: tokio::sync::Mutex<Reports>,
}

#[derive(Default)]
struct Reports {
    subscriber: Option<Subscriber>,
    /// The number of the latest notice. Numbers keep a late report from being attributed to another notice.
    last: u64,
}

impl Notices {
    /// `subject` must be one that only this connection subscribes to.
    pub(super) fn new(subject: String) -> Self {
        Self { subject, tokens: Tokens::default(), reports: tokio::sync::Mutex::default() }
    }

    pub(super) async fn notify(&self, shared: &NatsShared, notices: Vec<Wave>) -> Vec<Reach> {
        let mut reports = self.reports.lock().await;
        let Reports { subscriber, last } = &mut *reports;
        if subscriber.is_none() {
            *subscriber = shared.client.subscribe(format!("{}.*", self.subject)).await.ok();
        }
        let Some(subscriber) = subscriber else { return vec![Reach::Unsent; notices.len()] };
        let first = *last + 1;
        let mut reaches = Vec::with_capacity(notices.len());
        for notice in &notices {
            *last += 1;
            let is_sent = self.send(shared, *last, notice).await;
            reaches.push(if is_sent { Reach::Delivered } else { Reach::Unsent });
        }
        if shared.state.marker_returns(&shared.client).await {
            // Unconstrained, because the task's budget may be exhausted and every queued message must be seen.
            while let Some(Some(report)) = unconstrained(subscriber.next()).now_or_never() {
                shared.state.took_message();
                let Some(number) = unheard(&report, &self.tokens) else { continue };
                if number.is_none() {
                    shared.state.refuse();
                }
                // Older reports belong to a call that was cancelled.
                let place = number.and_then(|number| usize::try_from(number.checked_sub(first)?).ok());
                if let Some(reach) = place.and_then(|place| reaches.get_mut(place)) {
                    *reach = Reach::NoListener;
                }
            }
            self.verify(shared, &notices, &mut reaches).await;
        } else {
            let is_sent = |reach: &&mut Reach| **reach == Reach::Delivered;
            reaches.iter_mut().filter(is_sent).for_each(|reach| *reach = Reach::Unknown);
        }
        reaches
    }

    /// Verifies, in a process with keys, the reports that nobody hears a notice: others may have sent them.
    async fn verify(&self, shared: &NatsShared, notices: &[Wave], reaches: &mut [Reach]) {
        if !shared.sealing.is_on() {
            return;
        }
        let unheard = notices.iter().zip(&mut *reaches).filter(|(_, reach)| **reach == Reach::NoListener);
        let verified = unheard.map(async |(notice, reach)| {
            *reach = match shared.is_unheard(notice.channel()).await {
                Some(true) => Reach::NoListener,
                // Somebody hears the channel now. The report was false, or whoever hears it has come since.
                Some(false) | None => Reach::Unknown,
            };
        });
        join_all(verified).await;
    }

    /// Waits for any call to [`notify`](Self::notify) in progress to finish.
    pub(super) async fn announced(&self) {
        drop(self.reports.lock().await);
    }

    async fn send(&self, shared: &NatsShared, number: u64, notice: &Wave) -> bool {
        // While a medium is being closed, its vibrators still send their farewell notices.
        if shared.state.has_ended() || shared.oversize(notice).is_some() {
            return false;
        }
        // Notices are always frames, whatever the wire format of other waves, because only Aether reads them.
        let Ok(frame) = shared.frame(notice, clock::now()) else { return false };
        let subject = shared.subject(Root::Questions, notice.channel().as_str());
        let channel = notice.channel().as_str();
        let Some(frame) = shared.sealed(Root::Questions, channel, &subject, frame) else { return false };
        let reply = format!("{}.{}", self.subject, self.tokens.write(number));
        shared.client.publish_with_reply(subject, reply, frame).await.is_ok()
    }
}

impl NatsShared {
    /// Whether nobody hears the questions on a channel. `None` if that cannot be known: the connection is down, broke or has
    /// ended, or it took too long.
    ///
    /// Cancel safety: cancelled, it sends nothing more.
    pub(super) async fn is_unheard(&self, channel: &Channel) -> Option<bool> {
        if !self.state.is_connected() {
            return None;
        }
        timeout(VERIFIED_WITHIN, self.send_probes(channel)).await.ok()?
    }

    async fn send_probes(&self, channel: &Channel) -> Option<bool> {
        let subject = Subject::from(self.subject(Root::Questions, channel.as_str()));
        let frame = encode_at(self.sender(), Some(NO_POSITION), None, &[], clock::now()).ok()?;
        let seal = |_| self.sealed(Root::Questions, channel.as_str(), &subject, frame.clone());
        let frames: Option<Vec<_>> = (0..PROBES).map(seal).collect();
        let probes = self.state.probe(&self.client, &subject, frames?).await?;
        let answers = join_all(probes.into_iter().map(|probe| self.state.probed(&self.client, probe))).await;
        let is_unheard = answers.into_iter().try_fold(true, |all, unheard| Some(all && unheard?))?;
        if !is_unheard {
            self.state.refuse();
            tracing::debug!(%channel, "ignored a notice that nobody hears, which is not from the server");
        }
        Some(is_unheard)
    }
}

/// Handles waves that nobody hears, by the report of the server or somebody else: they come back, in a process with
/// keys after the report is verified.
pub(super) fn unheard_waves(
    shared: &Arc<NatsShared>,
    router: Arc<Router>,
) -> impl Fn(Vec<Wave>) + Send + 'static {
    // The task that calls it ends with the connection, which it must not keep.
    let shared = Arc::downgrade(shared);
    move |waves| {
        let Some(shared) = shared.upgrade() else { return };
        match &shared.unverified {
            Some(unverified) => {
                if let Err(waves) = unverified.add(waves) {
                    count(&router, &waves);
                }
            }
            None => waves.iter().for_each(|wave| router.reflect_unheard(wave)),
        }
    }
}

/// Verifies the reports about waves, several at the same time, and reflects in their order the waves that nobody
/// hears. Where a verification has no result, the waves may have been received: they do not come back, and are
/// counted. Ends with the connection, which it keeps during a verification only.
pub(super) async fn verify_waves(
    shared: Weak<NatsShared>,
    router: Arc<Router>,
    mut entries: mpsc::UnboundedReceiver<UnverifiedEntry>,
) {
    let verified = poll_fn(|cx| entries.poll_recv(cx)).map(|entry| {
        let shared = shared.clone();
        async move {
            let is_unheard = match (&entry, shared.upgrade()) {
                (UnverifiedEntry::Waves { waves, .. }, Some(shared)) => match waves.first() {
                    Some(first) => shared.is_unheard(first.channel()).await,
                    None => None,
                },
                _ => None,
            };
            (entry, is_unheard)
        }
    });
    let mut verified = pin!(verified.buffered(MOST_VERIFICATIONS));
    while let Some((entry, is_unheard)) = verified.next().await {
        // Their places are free when the match has ended.
        match (entry, is_unheard) {
            (UnverifiedEntry::Waves { waves, .. }, Some(true)) => {
                waves.iter().for_each(|wave| router.reflect_unheard(wave));
            }
            (UnverifiedEntry::Waves { waves, .. }, None) => count(&router, &waves),
            (UnverifiedEntry::Waves { .. }, Some(false)) => {}
            (UnverifiedEntry::Barrier { passed, .. }, _) => {
                let _ = passed.send(());
            }
        }
        // A flush that waits for the decisions sees that there is progress.
        if let Some(shared) = shared.upgrade() {
            shared.state.note_progress();
        }
    }
}

fn count(router: &Router, waves: &[Wave]) {
    waves.iter().for_each(|wave| router.count_unverified(wave));
}

impl ConnectionState {
    /// Opens an inquiry about waves that are about to be sent, and returns its reply subject. Called by the sending
    /// task. Returns `None` once the connection has ended.
    pub(super) fn inquire(&self, waves: Vec<Wave>) -> Option<String> {
        let marks = self.marks.lock();
        let inbox = &marks.as_ref()?.inbox;
        let number = self.unconfirmed.lock().inquiries.open(waves);
        Some(format!("{inbox}.{}", self.inquiry_tokens.write(number)))
    }

    /// Sends probes, each with a marker right behind it. `None` once the connection has ended.
    ///
    /// The client is given all of them in one go, so that it writes a probe and its marker together: only if its task runs
    /// already, and takes what there is just between the two, does it write them apart, which cannot happen to all of them.
    ///
    /// Cancel safety: cancelled, it sends no more of them.
    pub(super) async fn probe(
        &self,
        client: &Client,
        subject: &Subject,
        frames: Vec<Bytes>,
    ) -> Option<Vec<oneshot::Receiver<bool>>> {
        let (inbox, markers) =
            self.marks.lock().as_ref().map(|marks| (marks.inbox.clone(), marks.subject.clone()))?;
        self.unconfirmed.lock().drop_abandoned_probes();
        let (mut messages, mut probes) = (Vec::new(), Vec::new());
        for frame in frames {
            let (number, is_unheard) = self.unconfirmed.lock().probe()?;
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
    pub(super) async fn probed(&self, client: &Client, probe: oneshot::Receiver<bool>) -> Option<bool> {
        self.watching(client, probe).await.ok()
    }
}
