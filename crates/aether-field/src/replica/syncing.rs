//! The task that reconciles this replica with others whenever something may be missing.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, AskError, Emitter, Kind, Wave, WaveError};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::publishing;
use super::shared::{Shared, wall};
use super::wire::{Answer, Question, VERSION};
use crate::core::{Initiator, Message, ProtocolError, Refusals, WriterId};

/// How long one question may take, and when it is asked again: a lost answer must not cost a whole reconciliation. The
/// responder does nothing twice.
const PATIENCE: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// While changes are on the way the digests differ although nothing is missing. A difference counts after such a silence.
const QUIET: Duration = Duration::from_millis(50);

/// A difference counts in any case if the last reconciliation with that peer is so long ago.
const SELDOM: Duration = Duration::from_secs(5);

/// Why a reconciliation broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the message cannot be made")]
    Wave(#[from] WaveError),
    #[error("the answer cannot be read")]
    Answer(#[from] postcard::Error),
}

/// The outcome of a reconciliation.
#[derive(Debug)]
pub(super) struct Exchanged {
    /// Certificates were exchanged: what their owners have was no part of it then.
    has_certificates: bool,
    /// The refusals here.
    pub(super) here: Refusals,
    /// The refusals of the peer.
    pub(super) there: Refusals,
}

/// Begins reconciliations. One at a time.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    aether: Aether,
    emitter: Emitter,
    session: Mutex<u32>,
}

impl Syncer {
    pub(super) fn new(shared: Arc<Shared>, aether: Aether, emitter: Emitter) -> Self {
        Self { shared, aether, emitter, session: Mutex::new(fastrand::u32(..)) }
    }

    /// Reconciles with peers whose digest differs, whenever there is a reason to look.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.shared.sync_now.notified().await;
            let quiet = self.shared.quiet_for();
            if quiet < QUIET {
                sleep(QUIET - quiet).await;
            }
            let own = self.shared.state().digest();
            let is_quiet = self.shared.quiet_for() >= QUIET;
            let differing = self.shared.peers.lock().differing(own, Instant::now());
            for (peer, last) in differing {
                let is_due = last.is_none_or(|last| last.elapsed() >= SELDOM);
                if !(is_quiet || is_due) {
                    continue;
                }
                // Its report from before the last change does not count: it may have that change by now.
                let reconciled = match self.agrees(peer).await {
                    Ok(true) => Ok(()),
                    Ok(false) => self.with(peer).await.map(drop),
                    Err(error) => Err(error),
                };
                if let Err(error) = reconciled {
                    tracing::debug!(%error, %peer, "a reconciliation broke off");
                }
            }
        }
    }

    /// Reconciles with one peer. Afterwards it has everything that this replica had when it began, and the reverse.
    /// Cancel safe: the peer forgets what was left unfinished.
    pub(super) async fn with(&self, peer: WriterId) -> Result<Exchanged, SyncError> {
        let mut session = self.session.lock().await;
        *session = session.wrapping_add(1);
        let before = (self.shared.state().digest(), self.shared.peers.lock().digest(peer));
        let mut result = self.exchange(peer, *session).await;
        if let Ok(Exchanged { has_certificates: true, .. }) = result {
            *session = session.wrapping_add(1);
            result = self.exchange(peer, *session).await;
        }
        match &result {
            Ok(_) => {
                self.shared.count(|account| &mut account.reconciliations);
                let digest = self.shared.state().digest();
                self.shared.peers.lock().reconciled(peer, before, digest, Instant::now());
                self.shared.progress.send_modify(|progress| *progress += 1);
            }
            Err(_) => self.shared.count(|account| &mut account.broken_off),
        }
        result
    }

    /// Whether a peer reports the same state as this replica now. Cancel safe.
    pub(super) async fn agrees(&self, peer: WriterId) -> Result<bool, SyncError> {
        self.ask(peer, 0, Vec::new()).await?;
        let own = self.shared.state().digest();
        Ok(self.shared.peers.lock().agrees(peer, own))
    }

    /// Sends the changes that wait, so that a peer that is asked next probably has them: questions overtake what waits in
    /// an outbox. Cancel safe: what is not sent is exchanged later.
    pub(super) async fn send(&self) {
        // A medium that is closed or not connected shows when the next question is asked.
        if publishing::send(&self.shared, &self.emitter).await.is_ok() {
            let _ = self.aether.flush().await;
        }
    }

    async fn exchange(&self, peer: WriterId, session: u32) -> Result<Exchanged, SyncError> {
        let (mut initiator, first) = Initiator::start(&mut self.shared.state())?;
        let mut to_send = vec![first];
        while !to_send.is_empty() {
            for answer in self.ask(peer, session, std::mem::take(&mut to_send)).await? {
                let mut state = self.shared.state();
                let step = initiator.handle(&mut state, answer, wall())?;
                self.shared.take_in(&state, &step);
                to_send.extend(step.send);
            }
        }
        if initiator.is_done() {
            let has_certificates = initiator.has_certificates();
            let (here, there) = (initiator.refused_here().clone(), initiator.refused_there().clone());
            Ok(Exchanged { has_certificates, here, there })
        } else {
            Err(ProtocolError::OutOfTurn.into())
        }
    }

    async fn ask(
        &self,
        peer: WriterId,
        session: u32,
        messages: Vec<Message>,
    ) -> Result<Vec<Message>, SyncError> {
        let from = self.shared.state().writer();
        let question = Question { version: VERSION, from, session, messages };
        let channel = self.shared.channels.sync(peer).map_err(WaveError::from)?;
        let question = postcard::to_allocvec(&question)?;
        let mut attempts = PATIENCE.into_iter().peekable();
        let answer = loop {
            let wave = Wave::builder(channel.clone()).kind(Kind::Query).bytes(question.clone()).build()?;
            let patience = attempts.next().unwrap_or_default();
            match self.emitter.ask_within(wave, patience).await {
                Ok(answer) => break answer,
                Err(AskError::TimedOut { .. }) if attempts.peek().is_some() => {}
                Err(error) => {
                    if matches!(error, AskError::NoResonator { .. }) {
                        self.shared.peers.lock().forget(peer);
                    }
                    return Err(error.into());
                }
            }
        };
        let Answer { digest, messages } = postcard::from_bytes(answer.payload())?;
        self.shared.peers.lock().answered(peer, digest, Instant::now());
        Ok(messages)
    }
}
