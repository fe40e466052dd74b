//! Asking until there is an answer: growing pauses, a budget, one deadline.
//!
//! Used by services that ask others, in handlers as an argument, elsewhere made from an emitter. A question may be asked
//! again and so may arrive more than once: whoever answers does each thing once for each key, as the samples do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_core::{AskError, Channel, Emitter, Wave, WaveId};
use backon::Retryable;
use tokio::time::{Instant, timeout_at};

use crate::{Resend, error_chain};

/// A deadline that the clock cannot hold is as good as this one.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// How questions are asked.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct AskerOptions {
    patience: Duration,
    deadline: Duration,
    resend: Resend,
}

impl AskerOptions {
    /// How long one attempt waits for its answer. Default: 1 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long all attempts of one question take together. Default: 10 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How a question is asked again. Default: [`Resend::default`].
    pub fn resend(mut self, resend: Resend) -> Self {
        self.resend = resend;
        self
    }
}

impl Default for AskerOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(1),
            deadline: Duration::from_secs(10),
            resend: Resend::default(),
        }
    }
}

/// Why there is no answer. What was asked may have been done all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskerError {
    /// The deadline has passed.
    #[error("no answer on {channel} before the deadline")]
    Deadline {
        /// Where it was asked.
        channel: Channel,
    },
    /// Asking again does not help, or was tried as often as is allowed. The last failure.
    #[error("no answer on {channel}")]
    Ask {
        /// Where it was asked.
        channel: Channel,
        /// Why the last attempt failed.
        source: AskError,
    },
}

/// Asks until there is an answer. Clones share the budget.
#[derive(Debug, Clone)]
pub struct Asker {
    emitter: Emitter,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: AskerOptions,
    /// Whether it was said that nobody listens: once is enough.
    hinted: AtomicBool,
}

/// How one attempt ended without an answer.
enum Unanswered {
    Failed(AskError),
    /// The budget does not cover a resend now: it waits for another pause, and nothing was sent.
    OverBudget,
}

impl Asker {
    /// Asks under the name of an emitter, and with its cause.
    #[must_use]
    pub fn new(emitter: Emitter, options: AskerOptions) -> Self {
        Self { emitter, shared: Arc::new(Shared { options, hinted: AtomicBool::new(false) }) }
    }

    /// The same asker, with the same budget, for what a wave led to: see [`Emitter::caused_by`].
    #[must_use]
    pub fn caused_by(&self, cause: WaveId) -> Self {
        Self { emitter: self.emitter.caused_by(cause), shared: Arc::clone(&self.shared) }
    }

    /// Emits under the same name, and with the same cause.
    #[must_use]
    pub fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// Asks, and asks again what failed for a moment, until there is an answer or the deadline of the options has
    /// passed.
    ///
    /// Each resend is half as strong as the attempt before it and is paid for from the budget; what the budget does not
    /// cover waits. A question that nobody heard (`NoResonator`) costs nobody anything: asking it again is free.
    ///
    /// # Errors
    /// [`AskerError`]; what was asked may have been done all the same.
    ///
    /// # Cancel safety
    /// Cancelled before completion, what was asked may have been done.
    pub async fn ask(&self, question: Wave) -> Result<Wave, AskerError> {
        let now = Instant::now();
        let deadline = now.checked_add(self.shared.options.deadline).unwrap_or(now + NEVER);
        self.ask_until(question, deadline).await
    }

    /// The same with a deadline of its own.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    ///
    /// # Cancel safety
    /// As [`Asker::ask`].
    pub async fn ask_until(&self, question: Wave, deadline: Instant) -> Result<Wave, AskerError> {
        let AskerOptions { patience, ref resend, .. } = self.shared.options;
        let channel = question.channel().clone();
        resend.budget.deposit();
        let (mut next, mut is_first) = (question, true);
        // Of the attempt before: whether somebody heard it, and whether it was the last that is allowed.
        let heard = AtomicBool::new(false);
        let attempt = || {
            let resends = !std::mem::take(&mut is_first) && heard.load(Ordering::Relaxed);
            let covered = !resends || resend.budget.withdraw();
            if resends && covered {
                // There is one, or it would not have been asked again.
                next = resend.next(&next).unwrap_or_else(|| next.clone());
            }
            let wave = covered.then(|| (next.clone(), resend.next(&next).is_none()));
            async {
                let (wave, is_last) = wave.ok_or((Unanswered::OverBudget, false))?;
                let asked = self.emitter.ask_within(wave, patience).await;
                asked.map_err(|error| {
                    let was_heard = !matches!(error, AskError::NoResonator { .. });
                    heard.store(was_heard, Ordering::Relaxed);
                    (Unanswered::Failed(error), was_heard && is_last)
                })
            }
        };
        let asked = attempt
            .retry(resend.drawn_pauses())
            .when(|(failed, is_last)| match failed {
                Unanswered::Failed(error) => error.is_transient() && !is_last,
                Unanswered::OverBudget => true,
            })
            .notify(|(failed, _), pause| self.note(&channel, failed, pause));
        match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err((Unanswered::Failed(source), _))) => Err(AskerError::Ask { channel, source }),
            Ok(Err((Unanswered::OverBudget, _))) | Err(_) => Err(AskerError::Deadline { channel }),
        }
    }

    fn note(&self, channel: &Channel, failed: &Unanswered, pause: Duration) {
        let Unanswered::Failed(error) = failed else {
            tracing::debug!(%channel, ?pause, "asking again must wait: the retry budget is used up");
            return;
        };
        if matches!(error, AskError::NoResonator { .. }) && !self.shared.hinted.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("nobody listens on {channel} yet: is the service that answers there running?");
        }
        tracing::debug!(%channel, error = error_chain(error), ?pause, "asking again");
    }
}
