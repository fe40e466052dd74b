//! One way over a bridge: takes what is heard on one side, and gives it to the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::account::{Counts, WayAccount, count};
use super::mark::Mark;
use super::window::Window;
use aether_core::clock::Moment;
use aether_core::presence::Roster;
use aether_core::{EchoReason, EmitError, Emitter, Pattern, Receiver, Tuner, Wave};

/// Shared by both ways of a bridge.
#[derive(Debug)]
pub(super) struct WayOptions {
    pub(super) mark: Mark,
    /// Of both sides: a wave that was heard on one of them is not relayed to it.
    pub(super) window: Mutex<Window>,
    pub(super) max_hops: u8,
    pub(super) max_questions: usize,
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Way {
    pub(super) options: Arc<WayOptions>,
    pub(super) counts: Counts,
    /// Of the vibrator that hears; its account.
    tuner: Tuner,
    /// Tells the sources on this side what failed.
    pub(super) near: Emitter,
    pub(super) far: Emitter,
    /// The others that hear on this side.
    pub(super) roster: Roster,
    /// Whether the other side is connected, if it can be away.
    pub(super) far_stands: Option<watch::Receiver<bool>>,
}

impl Way {
    pub(super) fn new(
        options: Arc<WayOptions>,
        tuner: Tuner,
        near: Emitter,
        far: Emitter,
        roster: Roster,
    ) -> Self {
        let far_stands = far.aether().medium().connection();
        Self { options, counts: Counts::default(), tuner, near, far, roster, far_stands }
    }

    pub(super) fn account(&self) -> WayAccount {
        self.counts.account(self.tuner.ledger())
    }

    /// Relays until the bridge ends or the medium is closed, then what is left.
    pub(super) async fn run(
        self: Arc<Self>,
        mut receiver: Receiver,
        patterns: Vec<Pattern>,
        mut ending: watch::Receiver<bool>,
    ) {
        // Dropped with this future, which ends the questions.
        let mut questions = JoinSet::new();
        loop {
            let wave = tokio::select! {
                biased;
                // An error means that the bridge was dropped.
                _ = ending.wait_for(|is_ending| *is_ending) => break,
                Some(_) = questions.join_next() => continue,
                wave = receiver.receive() => wave,
            };
            let Some(wave) = wave else { break };
            self.pass(wave, &mut questions).await;
        }
        for pattern in &patterns {
            // It was a pattern when it was joined.
            let _ = receiver.detune(pattern);
        }
        while let Ok(wave) = receiver.try_receive() {
            self.pass(wave, &mut questions).await;
        }
        while questions.join_next().await.is_some() {}
    }

    /// Relays one wave, or counts why not.
    async fn pass(self: &Arc<Self>, wave: Wave, questions: &mut JoinSet<()>) {
        let (options, counts) = (&self.options, &self.counts);
        if options.mark.is_on(&wave) {
            return count(&counts.looped);
        }
        if !options.window.lock().is_new(&wave) {
            return count(&counts.repeated);
        }
        let onward = match wave.relayed(Moment::now()) {
            Some(onward) if wave.hops() < options.max_hops => onward,
            _ => {
                count(&counts.too_far);
                return self
                    .reflect(&wave, EchoReason::TooFar, "relayed as often as the bridge allows")
                    .await;
            }
        };
        let onward = match options.mark.on(onward) {
            Ok(onward) => onward,
            Err(error) => {
                count(&counts.unmarked);
                return self.reflect(&wave, EchoReason::Rejected, &error.to_string()).await;
            }
        };
        if wave.expects_reply() {
            return self.ask(wave, onward, questions).await;
        }
        // Counted before it may be cancelled: the wave has been offered then.
        count(&counts.relayed);
        if let Err(error) = self.far.carry_relayed(onward).await {
            counts.relayed.fetch_sub(1, Ordering::Relaxed);
            let reason = self.count_refused(&error);
            self.reflect(&wave, reason, &error.to_string()).await;
        }
    }

    /// Counts a wave that the other medium refused. Returns the reason for its source.
    pub(super) fn count_refused(&self, error: &EmitError) -> EchoReason {
        let (counter, reason) = match error {
            EmitError::NotAllowed { .. } => (&self.counts.not_allowed, EchoReason::Rejected),
            EmitError::TooLarge { .. } => (&self.counts.too_large, EchoReason::Rejected),
            _ => (&self.counts.refused, EchoReason::Shed),
        };
        count(counter);
        reason
    }

    /// Tells the source of a wave, if it is on this side and wants to know.
    async fn reflect(&self, wave: &Wave, reason: EchoReason, hint: &str) {
        tracing::debug!(wave = %wave.id(), %reason, hint, "a wave was not relayed");
        self.near.reflect(wave, reason, hint).await;
    }
}
