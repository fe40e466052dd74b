//! The task that reconciles this replica with others whenever something may be missing.

use std::sync::Arc;
use std::time::Duration;

use aether_core::{AskError, Emitter, Kind, Wave, WaveError};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::shared::{Shared, wall};
use super::wire::{Question, VERSION};
use crate::core::{Initiator, Message, ProtocolError, WriterId};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Begins reconciliations. One at a time.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    emitter: Emitter,
    session: Mutex<u32>,
}

impl Syncer {
    pub(super) fn new(shared: Arc<Shared>, emitter: Emitter) -> Self {
        Self { shared, emitter, session: Mutex::new(fastrand::u32(..)) }
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
                if let Err(error) = self.with(peer).await {
                    tracing::debug!(%error, %peer, "a reconciliation broke off");
                }
            }
        }
    }

    /// Reconciles with one peer. Afterwards it has everything that this replica had when it began, and the reverse.
    /// Cancel safe: the peer forgets what was left unfinished.
    pub(super) async fn with(&self, peer: WriterId) -> Result<(), SyncError> {
        let mut session = self.session.lock().await;
        *session = session.wrapping_add(1);
        let before = (self.shared.state().digest(), self.shared.peers.lock().digest(peer));
        let mut result = self.exchange(peer, *session).await;
        if let Ok(true) = result {
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
            Err(error) => {
                self.shared.count(|account| &mut account.broken_off);
                if matches!(error, SyncError::Ask(AskError::NoResonator { .. })) {
                    self.shared.peers.lock().forget(peer);
                }
            }
        }
        result.map(drop)
    }

    /// Returns whether certificates were exchanged: what their owners have was no part of it then.
    async fn exchange(&self, peer: WriterId, session: u32) -> Result<bool, SyncError> {
        let (mut initiator, first) = Initiator::start(&mut self.shared.state())?;
        let mut to_send = vec![first];
        while !initiator.is_done() {
            let Some(message) = to_send.pop() else { return Err(ProtocolError::OutOfTurn.into()) };
            for answer in self.ask(peer, session, message).await? {
                let mut state = self.shared.state();
                let step = initiator.handle(&mut state, answer, wall())?;
                self.shared.take_in(&state, &step);
                // Taken from the end, so what comes first goes last.
                to_send.extend(step.send.into_iter().rev());
            }
        }
        Ok(initiator.has_certificates())
    }

    async fn ask(&self, peer: WriterId, session: u32, message: Message) -> Result<Vec<Message>, SyncError> {
        let from = self.shared.state().writer();
        let question = Question { version: VERSION, from, session, message };
        let channel = self.shared.channels.sync(peer).map_err(WaveError::from)?;
        let wave =
            Wave::builder(channel).kind(Kind::Query).bytes(postcard::to_allocvec(&question)?).build()?;
        let answer = self.emitter.ask_within(wave, PATIENCE).await?;
        Ok(postcard::from_bytes(answer.payload())?)
    }
}
