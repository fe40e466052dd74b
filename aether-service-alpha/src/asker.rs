//! Asking until there is an answer: bounded attempts, growing pauses, one deadline.
//!
//! The saga asks through it. Every question can be asked again without harm, because those who answer do each thing
//! once for each order; so an answer that got lost, a server that restarts and a service that starts later are all
//! the same case here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aether_chassis::error_chain;
use aether_core::{AskError, Emitter, Kind, PayloadError, Wave, WaveError, WaveId};
use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::order::OrderId;

/// The first pause is at most this long; the next ones twice as long each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// No pause is longer: a service that comes back is found within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a question is asked again. With the pauses above that lasts half a minute where each attempt fails at
/// once.
const MOST_RETRIES: usize = 64;
/// A repetition is half as strong as the attempt before it, so that under overload retries never outrank fresh
/// questions; down to this factor, so that they are not starved for ever.
const WEAKEST: f32 = 1.0 / 64.0;

/// Why there is no answer. What was asked may have been done all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AskerError {
    #[error("no answer on {channel} before the deadline")]
    Deadline { channel: &'static str },
    #[error("no answer on {channel}")]
    Ask { channel: &'static str, source: AskError },
    #[error("the answer on {channel} cannot be read")]
    Payload { channel: &'static str, source: PayloadError },
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question<'a, T> {
    pub(crate) channel: &'static str,
    pub(crate) order: &'a OrderId,
    pub(crate) amplitude: f32,
    pub(crate) cause: Option<&'a WaveId>,
    pub(crate) payload: T,
}

/// Asks on behalf of one vibrator.
#[derive(Debug)]
pub(crate) struct Asker {
    emitter: Emitter,
    /// How long one attempt waits.
    patience: Duration,
    /// Whether it was said that nobody listens: once is enough.
    hinted: AtomicBool,
}

impl Asker {
    pub(crate) fn new(emitter: Emitter, patience: Duration) -> Self {
        Self { emitter, patience, hinted: AtomicBool::new(false) }
    }

    /// The answer, and the id of the wave that brought it.
    ///
    /// Cancel safety: cancelled before completion, what was asked may have been done.
    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        question: Question<'_, impl Serialize>,
        deadline: Instant,
    ) -> Result<(A, WaveId), AskerError> {
        let channel = question.channel;
        let mut amplitude = question.amplitude;
        let attempt = || {
            let wave = question.wave(amplitude);
            amplitude = (amplitude / 2.0).max(question.amplitude * WEAKEST);
            async { self.emitter.ask_wave(wave?, self.patience).await }
        };
        let asked = attempt
            .retry(pauses())
            .when(AskError::is_transient)
            .notify(|error, pause| self.note(channel, error, pause));
        let answer = match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(source)) => return Err(AskerError::Ask { channel, source }),
            Err(_) => return Err(AskerError::Deadline { channel }),
        };
        let read = answer.json().map_err(|source| AskerError::Payload { channel, source })?;
        Ok((read, answer.id()))
    }

    fn note(&self, channel: &'static str, error: &AskError, pause: Duration) {
        if matches!(error, AskError::NoResonator { .. }) && !self.hinted.swap(true, Ordering::Relaxed) {
            tracing::warn!("nobody listens on {channel} yet: is the service that answers there running?");
        }
        tracing::debug!(channel, error = error_chain(error), ?pause, "asking again");
    }
}

impl<T: Serialize> Question<'_, T> {
    fn wave(&self, amplitude: f32) -> Result<Wave, WaveError> {
        let wave = Wave::builder(self.channel)
            .kind(Kind::Command)
            .key(self.order.as_str())
            .amplitude(amplitude)
            .json(&self.payload);
        match self.cause {
            Some(cause) => wave.cause(cause.clone()),
            None => wave,
        }
        .build()
    }
}

/// Exponential with full jitter: each pause is drawn between zero and its bound, so that orders that failed together
/// do not come back together.
/// Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
fn pauses() -> impl Iterator<Item = Duration> + Send + Sync + Unpin {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_max_times(MOST_RETRIES)
        .build()
        .map(|longest| longest.mul_f64(fastrand::f64()))
}
