//! Asks a question again until it is answered: growing pauses, a retry budget, one deadline.
//!
//! Services use it to ask other services. Handlers take it as an argument; elsewhere it is made from an emitter. A
//! question can arrive more than once, so the answering side must be idempotent. The sample services do each thing once
//! per key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aether_core::wave::{BaggageError, Origin};
use aether_core::{AskError, Channel, EmitError, Emitter, Wave, WaveId};
use backon::Retryable;
use tokio::time::{Instant, timeout_at};

use crate::{Resend, error_chain};

/// Replaces deadlines beyond the range of the clock.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Options for asking questions.
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

    /// The retry policy of questions. Default: [`Resend::default`].
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

/// Why a question has no answer. The receiver may have acted on it nevertheless.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskerError {
    /// The deadline has passed.
    #[error("no answer on {channel} before the deadline")]
    Deadline {
        /// Where it was asked.
        channel: Channel,
    },
    /// The question could not be built, so it was not asked.
    #[error(transparent)]
    Invalid(EmitError),
    /// Another attempt cannot help, or all attempts are used up. Holds the last failure.
    #[error("asking gave up")]
    Ask {
        /// Where it was asked.
        channel: Channel,
        /// Why the last attempt failed.
        source: AskError,
    },
}

/// Asks a question again until it is answered. Clones share the retry budget.
#[derive(Debug, Clone)]
pub struct Asker {
    emitter: Emitter,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: AskerOptions,
    /// Whether the warning about a missing receiver was logged. It is logged once.
    hinted: AtomicBool,
}

/// How one attempt ended without an answer.
enum Unanswered {
    Failed(AskError),
    /// The retry budget is used up. Nothing was sent; the attempt waits for another pause.
    OverBudget,
}

impl Asker {
    /// Makes an asker that uses the name and the cause of `emitter`.
    #[must_use]
    pub fn new(emitter: Emitter, options: AskerOptions) -> Self {
        Self { emitter, shared: Arc::new(Shared { options, hinted: AtomicBool::new(false) }) }
    }

    /// The same asker, with the same budget, whose questions name `cause` as their cause: see [`Emitter::caused_by`].
    #[must_use]
    pub fn caused_by(&self, cause: WaveId) -> Self {
        self.with_emitter(self.emitter.caused_by(cause))
    }

    /// The same asker, with the same budget, for what follows from a wave or an echo: see [`Emitter::following`].
    #[must_use]
    pub fn following(&self, origin: impl Into<Origin>) -> Self {
        self.with_emitter(self.emitter.following(origin))
    }

    /// The same asker, with the same budget, whose questions carry one more entry of baggage: see
    /// [`Emitter::with_baggage`].
    ///
    /// # Errors
    /// As [`Emitter::with_baggage`].
    pub fn with_baggage(&self, name: &str, value: &str) -> Result<Self, BaggageError> {
        Ok(self.with_emitter(self.emitter.with_baggage(name, value)?))
    }

    /// The same asker, with the same budget, over another emitter.
    pub(crate) fn with_emitter(&self, emitter: Emitter) -> Self {
        Self { emitter, shared: Arc::clone(&self.shared) }
    }

    /// The emitter with the same name and cause.
    #[must_use]
    pub fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// Asks a question. Transient failures are retried until there is an answer or the deadline of the options has
    /// passed.
    ///
    /// Each resend is half as strong as the attempt before it and costs one unit of the retry budget; without budget it
    /// waits. Repeating a question without a receiver (`NoResonator`) loads no service, so it costs nothing. All attempts
    /// have one [root](Wave::root): the root of the emitter, or the first attempt.
    ///
    /// # Errors
    /// [`AskerError`]. The receiver may have acted on the question nevertheless.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the receiver may have acted on the question.
    pub async fn ask<W>(&self, question: W) -> Result<Wave, AskerError>
    where
        W: TryInto<Wave>,
        EmitError: From<W::Error>,
    {
        let now = Instant::now();
        let deadline = now.checked_add(self.shared.options.deadline).unwrap_or(now + NEVER);
        self.ask_until(question, deadline).await
    }

    /// Like [`Asker::ask`], with an explicit deadline.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    ///
    /// # Cancel safety
    /// As [`Asker::ask`].
    pub async fn ask_until<W>(&self, question: W, deadline: Instant) -> Result<Wave, AskerError>
    where
        W: TryInto<Wave>,
        EmitError: From<W::Error>,
    {
        let question = question.try_into().map_err(|error| AskerError::Invalid(error.into()))?;
        self.ask_again_until(question, deadline).await
    }

    async fn ask_again_until(&self, question: Wave, deadline: Instant) -> Result<Wave, AskerError> {
        let AskerOptions { patience, ref resend, .. } = self.shared.options;
        let channel = question.channel().clone();
        resend.budget.deposit();
        let (mut next, mut is_first) = (question, true);
        // Whether the previous attempt reached a receiver.
        let heard = AtomicBool::new(false);
        // The id of the first attempt, if that begins the request.
        let root = OnceLock::new();
        let attempt = || {
            let resends = !std::mem::take(&mut is_first) && heard.load(Ordering::Relaxed);
            let covered = !resends || resend.budget.withdraw();
            if resends && covered {
                // A next attempt exists: the last one is never retried.
                next = resend.next(&next).unwrap_or_else(|| next.clone());
            }
            let wave = covered.then(|| (next.clone(), resend.next(&next).is_none()));
            async {
                let (mut wave, is_last) = wave.ok_or((Unanswered::OverBudget, false))?;
                if let Some(root) = root.get() {
                    wave = wave.in_request(root);
                }
                let asked = match self.emitter.question(wave) {
                    Ok(question) => {
                        if self.emitter.root().is_none() {
                            root.get_or_init(|| question.id());
                        }
                        question.ask_within(patience).await
                    }
                    Err(error) => Err(error.into()),
                };
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
            .notify(|(failed, _), pause| self.log(&channel, failed, pause));
        match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err((Unanswered::Failed(source), _))) => Err(AskerError::Ask { channel, source }),
            Ok(Err((Unanswered::OverBudget, _))) | Err(_) => Err(AskerError::Deadline { channel }),
        }
    }

    fn log(&self, channel: &Channel, failed: &Unanswered, pause: Duration) {
        let Unanswered::Failed(error) = failed else {
            tracing::debug!(%channel, ?pause, "the retry budget is used up; the next attempt waits");
            return;
        };
        if matches!(error, AskError::NoResonator { .. }) && !self.shared.hinted.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("no receiver on {channel} yet; is the service that answers it running?");
        }
        tracing::debug!(%channel, error = error_chain(error), ?pause, "asking again");
    }
}
